def check(x):
    if x > 2: raise ValueError(f"too large: {x}")
    return x
total = sum(check(x) for x in range(5))
