e = ValueError("odd")
e.__notes__ = 5
raise e
