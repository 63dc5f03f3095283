import warnings
warnings.formatwarning = lambda m, c, f, l, line=None: f"W {c.__name__} {m} {l}\n"
warnings.warn("formatted")
