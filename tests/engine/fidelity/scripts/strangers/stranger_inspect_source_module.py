import inspect, sys
print(inspect.getsource(sys.modules["__main__"]))
print(inspect.getsource(inspect.currentframe()))
