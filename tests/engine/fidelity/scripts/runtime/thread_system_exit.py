import threading, sys
t = threading.Thread(target=lambda: sys.exit("quiet")); t.start(); t.join()
print("still here")
