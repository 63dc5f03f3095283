x = 10
print([x + y for y in range(3)], {k: x for k in "ab"})
