import sys, types
m = types.ModuleType("mine"); m.x = 5
sys.modules["mine"] = m
import mine
print(mine.x)
