import logging, sys
logging.basicConfig(stream=sys.stdout, level="INFO")
logging.info("to stdout")
print("and print")
