def f():
    s = '''text
    more
