import contextlib
with contextlib.ExitStack() as stack:
    stack.callback(print, "callback")
    raise SystemExit(9)
