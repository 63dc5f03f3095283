class E(Exception):
    def with_traceback(self, tb): raise TypeError("no")
raise E("x")
