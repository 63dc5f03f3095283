class A:
    def __del__(self):
        def f(n): return f(n + 1)
        f(0)
a = A(); del a
print("end")
