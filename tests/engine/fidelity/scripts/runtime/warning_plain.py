import warnings
warnings.warn("something")
print("after")
