code = compile("def f():\n    raise ValueError\nf()", "made_up.py", "exec")
exec(code)
