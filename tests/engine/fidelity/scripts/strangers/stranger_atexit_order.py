import atexit
print(atexit.register(print) is print)
atexit.unregister(print)
atexit._clear()
print(atexit._ncallbacks())
