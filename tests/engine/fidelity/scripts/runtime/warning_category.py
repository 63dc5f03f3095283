import warnings
warnings.warn("old thing", DeprecationWarning)
warnings.warn("later", FutureWarning)
warnings.warn("hidden", ImportWarning)
