import linecache
linecache.clearcache()
def f(): raise ValueError("after clear")
f()
