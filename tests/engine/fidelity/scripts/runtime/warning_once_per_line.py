import warnings
for _ in range(3):
    warnings.warn("repeated")
