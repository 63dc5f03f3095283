import sys, logging
logging.basicConfig(format="%(levelname)s %(funcName)s %(lineno)d %(message)s")
def hook(t, v, tb):
    logging.critical("uncaught", exc_info=(t, v, tb))
    logging.exception("no current")
    logging.error("stack", stack_info=True)
sys.excepthook = hook
1 / 0
