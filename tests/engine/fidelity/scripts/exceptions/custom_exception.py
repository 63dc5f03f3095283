class Trouble(Exception):
    def __str__(self): return "in words"
raise Trouble(1, 2)
