with open("file.txt", "w") as f: f.write("line 1\nline 2\n")
print(open("file.txt").read())
import os
os.remove("file.txt")
