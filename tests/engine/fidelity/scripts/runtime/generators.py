def g():
    x = yield 1
    print("got", x)
    yield 2
i = g()
print(next(i), i.send("hi"))
