größe = 1
def 関数():
    raise ValueError(f"{größe} 日本語 🐧")
関数()
