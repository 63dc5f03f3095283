import sys
calls = []
def tracer(frame, event, arg):
    if event == "call": calls.append(frame.f_code.co_name)
def f(): pass
sys.settrace(tracer)
f()
sys.settrace(None)
print(calls)
