import logging.config
logging.config.dictConfig({"version": 1, "formatters": {"f": {"format": "{levelname}|{message}|{pathname}", "style": "{"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "f", "stream": "ext://sys.stdout"}},
    "loggers": {"app": {"handlers": ["out"], "level": "INFO"}}})
logging.getLogger("app").info("hi")
logging.getLogger("other").error("last resort")
logging.config.dictConfig({"version": 1, "handlers": {"x": {"class": "no.such"}}, "root": {"handlers": ["x"]}})
