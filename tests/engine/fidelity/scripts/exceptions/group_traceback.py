errors = []
for i in range(3):
    try:
        int("x" * i)
    except ValueError as e:
        errors.append(e)
raise ExceptionGroup("while parsing", errors)
