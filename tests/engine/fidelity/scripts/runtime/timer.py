import threading
t = threading.Timer(0.01, print, ["fired"]); t.start(); t.join()
