import threading
def hook(args):
    print("hook", args.exc_type.__name__, args.exc_value, args.thread.name, args.exc_traceback.tb_lineno)
threading.excepthook = hook
t = threading.Thread(target=lambda: 1 / 0, name="worker-x"); t.start(); t.join()
threading.excepthook = threading.__excepthook__
t = threading.Thread(target=lambda: 1 / 0, name="worker-y"); t.start(); t.join()
