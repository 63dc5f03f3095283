class E(OSError):
    @property
    def errno(self):
        print("errno asked")
        return 2
raise E("x")
