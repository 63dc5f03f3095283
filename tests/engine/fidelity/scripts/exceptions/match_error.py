match (1, 2):
    case (a, b) if a > b: pass
    case _: raise ValueError("no match")
