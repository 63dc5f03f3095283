def g(name):
    try:
        while True:
            got = yield name
            print("got", got)
    except GeneratorExit:
        print("closing", name)
        raise
    finally:
        print("finally", name)
a = g("a"); next(a); a.send(1); a.close()
b = g("b"); next(b); del b
c = g("c"); next(c)
try: c.throw(ValueError("in"))
except ValueError as e: print("out", e)
def bad():
    try: yield 1
    except GeneratorExit: yield 2
d = bad(); next(d); d.close()
