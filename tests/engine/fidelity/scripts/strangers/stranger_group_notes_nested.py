def fail(n):
    error = ValueError(f"bad {n}")
    error.add_note(f"note of {n}")
    error.add_note("two\nlines")
    raise error
errors = []
for n in range(3):
    try:
        fail(n)
    except ValueError as e:
        errors.append(e)
inner = ExceptionGroup("inner", errors[:2])
inner.add_note("on the inner group")
try:
    raise KeyError("first")
except KeyError:
    raise BaseExceptionGroup("outer", [inner, errors[2], KeyboardInterrupt()])
