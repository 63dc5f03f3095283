import logging, logging.handlers, sys
root = logging.getLogger()
logging.lastResort.setLevel(logging.INFO)
log = logging.getLogger("a.b")
log.warning("before config %s", 1)
logging.basicConfig(format="%(levelname)s:%(name)s:%(funcName)s:%(lineno)d:%(filename)s:%(processName)s:%(threadName)s:%(message)s", level=logging.DEBUG)
def f():
    log.debug("debug"); log.info("info %d", 3)
    try: 1 / 0
    except ZeroDivisionError: log.exception("failed")
    log.error("stack", stack_info=True)
f()
log.critical("x", extra={"k": 1})
log.log(35, "odd level")
log.warning("bad %d", "x")
h = logging.handlers.MemoryHandler(10, target=logging.StreamHandler(sys.stdout)); log.addHandler(h); log.propagate = False
log.error("kept"); h.flush()
print(log, root, logging.getLevelName(35), root.handlers)
logging.captureWarnings(True)
import warnings; warnings.warn("through logging")
logging.shutdown()
