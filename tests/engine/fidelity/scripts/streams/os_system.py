import os
print("status", os.system("echo system; exit 2") >> 8)
