print(0.1 + 0.2, 1e400, float("nan"), -0.0, 1e16, round(2.5))
