for f in (lambda: list(zip([1], [1, 2], strict=True)), lambda: int("12x"), lambda: [].pop(), lambda: {}.popitem(), lambda: "a" + 1, lambda: None.x,
          lambda: (1).bit_length(1), lambda: max([]), lambda: next(iter([])), lambda: [1, 2][5], lambda: sorted([1, "a"]), lambda: open("/nope"),
          lambda: __import__("os").listdir("/nope"), lambda: range(1, 2, 0), lambda: "x".join([1]), lambda: "%d" % "x", lambda: "{} {}".format(1), lambda: f"{1:zz}",
          lambda: float("nan_"), lambda: complex("x"), lambda: bytes(-1), lambda: chr(-1), lambda: 2 ** -1 % 0, lambda: 10 ** 400 * 1.0, lambda: isinstance(1, 1)):
    try: f()
    except Exception as e: print(type(e).__name__, e)
