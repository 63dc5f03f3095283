print("a\udc80b")
