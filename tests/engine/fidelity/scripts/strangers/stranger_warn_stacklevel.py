import warnings
def deprecated():
    warnings.warn("old", DeprecationWarning, stacklevel=2)
def caller():
    deprecated()
    warnings.warn("deep", UserWarning, stacklevel=3)
def outer():
    caller()
outer()
warnings.warn("beyond", RuntimeWarning, stacklevel=10)
warnings.warn_explicit("explicit", UserWarning, "other.py", 7)
warnings.warn_explicit("explicit2", FutureWarning, "other.py", 8, module="m", source=None)
