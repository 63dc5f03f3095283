try:
    try:
        1 / 0
    except ZeroDivisionError as e:
        raise LookupError("second") from None
except LookupError as e:
    print(repr(e.__cause__), repr(e.__context__), e.__suppress_context__)
    e.__suppress_context__ = False
    raise
