import warnings
warnings.simplefilter("always", ResourceWarning)
def f(): open("/dev/null")
f()
