import logging
logging.getLogger("x").warning("last resort")
