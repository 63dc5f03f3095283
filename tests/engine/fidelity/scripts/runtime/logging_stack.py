import logging
logging.warning("with stack", stack_info=True)
