import inspect
def f(a, /, b: int = 1, *args, c, **kw) -> str:
    "doc"
    return inspect.stack()[0]
class K:
    "doc of K"
    def m(self): return 1
print(inspect.signature(f), inspect.getsource(f), inspect.getsource(K.m), inspect.getsourcelines(K))
print(inspect.getfile(f) == inspect.getsourcefile(K) == __file__, inspect.getmodule(K), inspect.getcomments(f), inspect.getdoc(K))
s = f(1, c=2)
print(s.function, s.lineno, s.code_context, s.index, len(inspect.stack()))
print(inspect.currentframe().f_back, inspect.getframeinfo(inspect.currentframe()).code_context)
g = (i for i in range(3)); next(g)
print(inspect.getgeneratorstate(g), inspect.getgeneratorlocals(g))
print([n for n, o in inspect.getmembers(inspect.getmodule(f)) if not n.startswith("_")])
inspect.getsource(len)
