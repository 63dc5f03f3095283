import sys
class Upper:
    def write(self, s): sys.__stdout__.write(s.upper())
    def flush(self): pass
sys.stdout = Upper()
print("shout")
