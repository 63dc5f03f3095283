import sys
print(sys.stdin.isatty(), sys.stdin.readline() == "", sys.stdin.encoding, sys.stdin.mode, sys.stdin.name, sys.stdin.fileno(), sys.stdin.errors)
print(repr(sys.stdin), repr(sys.stdout), repr(sys.stderr))
print(sys.stdout.line_buffering, sys.stderr.line_buffering, sys.stdout.write_through, sys.stderr.write_through, sys.stdout.newlines)
print(type(sys.stdout.buffer), type(sys.stderr.buffer), type(sys.stdin.buffer), sys.__stdout__ is sys.stdout)
