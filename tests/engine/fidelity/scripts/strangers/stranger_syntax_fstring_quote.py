name = "x"
print(f"{name!q}")
