class E(Exception): pass
E.__module__ = "somewhere.else"
raise E("moved")
