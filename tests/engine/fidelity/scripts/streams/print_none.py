print()
print(None, ..., NotImplemented)
