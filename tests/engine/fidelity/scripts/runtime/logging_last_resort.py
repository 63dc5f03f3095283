import logging
logging.warning("root warning")
logging.info("not shown")
logging.getLogger("a.b").error("named")
