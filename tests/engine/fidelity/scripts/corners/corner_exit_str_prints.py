class E(SystemExit):
    def __str__(self):
        print("str called")
        return "x"
raise E(3)
