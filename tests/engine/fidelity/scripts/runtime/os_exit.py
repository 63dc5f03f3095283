import os
print("x")
os._exit(5)
