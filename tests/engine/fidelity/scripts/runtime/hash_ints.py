print(hash(5), hash(1.5), hash((1, 2)))
