import re
print(re.findall(r"\d+", "a1b22"), re.sub("(a)", r"<\1>", "banana"))
