print(sorted({3, 1, 2}), frozenset([1]), {1: 2} | {3: 4})
