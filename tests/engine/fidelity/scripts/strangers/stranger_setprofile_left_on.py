import sys
def prof(frame, event, arg):
    if "call" in event: print(event, frame.f_code.co_name, getattr(arg, "__name__", None))
def f(): return len("abc")
sys.setprofile(prof)
f()
sys.setprofile(None)
print("off")
