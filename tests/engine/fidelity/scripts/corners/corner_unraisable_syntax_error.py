class A:
    def __del__(self): eval("1 +")
a = A(); del a
print("end")
