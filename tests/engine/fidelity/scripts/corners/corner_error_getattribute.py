class E(Exception):
    def __getattribute__(self, name):
        if not name.startswith("__"): print("get", name)
        return super().__getattribute__(name)
raise E("x")
