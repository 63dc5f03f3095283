import threading
d = threading.local(); d.x = 1
print(d.x, threading.main_thread() is threading.current_thread())
