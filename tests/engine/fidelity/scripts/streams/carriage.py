for i in range(5):
    print(f"\r{i}/5", end="")
print()
