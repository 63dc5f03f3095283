import sys
sys.setprofile(lambda frame, event, arg: None)
def f(): return 1 / 0
f()
