import sys
def tracer(frame, event, arg):
    print(event, frame.f_code.co_name, frame.f_lineno)
    return tracer
def f(a):
    b = a + 1
    return b
sys.settrace(tracer)
f(1)
