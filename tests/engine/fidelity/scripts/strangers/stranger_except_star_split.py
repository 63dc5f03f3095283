def work():
    raise ExceptionGroup("many", [ValueError(1), TypeError("t"), ExceptionGroup("sub", [OSError(2, "No"), ValueError(3)])])
try:
    work()
except* ValueError as group:
    print(repr(group), group.exceptions)
except* OSError as group:
    print("os", group.exceptions[0].exceptions)
