import warnings
def w(): warnings.warn("once per place")
for _ in range(3): w()
warnings.simplefilter("always")
for _ in range(2): w()
with warnings.catch_warnings(record=True) as caught:
    w()
print(len(caught), caught[0].lineno, caught[0].category, caught[0].filename == __file__)
warnings.showwarning = lambda *a, **k: print("shown", a[0])
w()
