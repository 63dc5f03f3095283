class E(Exception):
    def __bool__(self): raise ValueError("no truth")
try: raise E("inner")
except E as e: raise KeyError("outer") from e
