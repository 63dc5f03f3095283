print("y" * 300_000)
