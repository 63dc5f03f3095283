import logging
logging.raiseExceptions = False
logging.warning("%d", "x")
