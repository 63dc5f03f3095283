import sys
print(sys.stdin.seekable(), sys.stdin.buffer.seekable())
print(sys.stdin.seek(0), sys.stdin.tell(), sys.stdin.buffer.tell())
