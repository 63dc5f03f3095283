x = 1
class A:
    x = 2
    y = [x for _ in range(1)]
print(A.y)
