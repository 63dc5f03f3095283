class E(Exception): pass
E.__module__ = "some.where"
class A:
    def __del__(self): raise E("x\ny")
a = A(); del a
E.__module__ = None
a = A(); del a
