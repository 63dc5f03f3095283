import traceback, sys
def a(): b()
def b():
    x = 5
    raise ValueError("v")
try: a()
except ValueError as e:
    traceback.print_exc()
    print(traceback.format_exception_only(e), traceback.extract_tb(e.__traceback__))
    te = traceback.TracebackException.from_exception(e, capture_locals=True)
    print("".join(te.format()))
    traceback.print_tb(e.__traceback__, limit=-1)
    traceback.print_exception(e, limit=1, chain=False)
    for f, l in traceback.walk_tb(e.__traceback__): print(f.f_code.co_name, l)
    print(sys.exception() is e, sys.exc_info()[0])
traceback.print_stack()
print(traceback.format_stack(), traceback.extract_stack())
traceback.print_last()
