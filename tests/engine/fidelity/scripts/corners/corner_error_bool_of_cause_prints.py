class E(Exception):
    def __len__(self):
        print("len called")
        return 0
try: raise E("inner")
except E as e: raise KeyError("outer") from e
