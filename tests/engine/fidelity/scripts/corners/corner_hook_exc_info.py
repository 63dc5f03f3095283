import sys, traceback
def hook(t, v, tb):
    print(sys.exc_info(), sys.exception())
    traceback.print_exc()
    print(traceback.format_exc())
sys.excepthook = hook
1 / 0
