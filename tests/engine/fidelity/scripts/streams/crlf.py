print("a\r\nb\r\n", end="")
