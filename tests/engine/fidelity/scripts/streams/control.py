print("a\tb\rc\bd\x07e\x1b[31mred\x1b[0m\x0c\x0b")
