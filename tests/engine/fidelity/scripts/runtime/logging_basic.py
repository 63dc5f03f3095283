import logging
logging.basicConfig(level=logging.DEBUG, format="%(levelname)s:%(name)s:%(funcName)s:%(lineno)d:%(filename)s:%(message)s")
def f(): logging.debug("details %d", 5)
f()
logging.info("info")
