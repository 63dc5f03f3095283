class E(Exception):
    def __str__(self):
        print("str called")
        return "text"
raise E
