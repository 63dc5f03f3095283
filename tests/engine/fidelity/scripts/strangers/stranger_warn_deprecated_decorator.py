import warnings
@warnings.deprecated("use g")
def f(): pass
f()
@warnings.deprecated("use D", category=UserWarning)
class C: pass
C()
