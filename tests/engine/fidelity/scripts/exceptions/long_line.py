x = "a" * 10; y = None; z = x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + y + x + x + x
