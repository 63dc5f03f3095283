import sys, __main__
x = 5
print(__main__.x, sys.modules["__main__"] is __main__, __main__.__name__)
