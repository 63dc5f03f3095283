import warnings
warnings.warn("at the top", stacklevel=2)
