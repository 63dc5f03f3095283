import sys, io, builtins
sys.stdin = io.StringIO("first\nsecond\n")
print(input("? "), input())
builtins.input = lambda prompt="": "faked"
print(input("x"))
