class A:
    def __del__(self): assert False
a = A()
a = None
print("end")
