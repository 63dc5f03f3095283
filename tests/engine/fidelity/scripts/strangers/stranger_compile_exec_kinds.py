exec(compile("x = 1\n\n1 / 0 if 0 else None", "virtual.py", "exec"))
exec("def g():\n    raise KeyError(1)")
try: g()
except KeyError:
    import traceback; traceback.print_exc()
ns = {}
exec(compile("def h():\n    return undefined_name", "elsewhere.py", "exec"), ns)
try: ns["h"]()
except NameError: traceback.print_exc()
eval("1 +")
