import sys
def tracer(frame, event, arg):
    return tracer
def f(a):
    raise ValueError("x")
sys.settrace(tracer)
f(1)
