x = "\d"
print(len(x))
