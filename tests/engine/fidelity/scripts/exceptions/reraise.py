try:
    int("q")
except ValueError as e:
    print("again")
    raise
