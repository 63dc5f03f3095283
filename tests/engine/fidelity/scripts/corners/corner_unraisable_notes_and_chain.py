class A:
    def __del__(self):
        try: 1 / 0
        except ZeroDivisionError as z:
            e = ValueError("in del")
            e.add_note("a note")
            raise e from z
a = A(); del a
print("end")
