import runpy, os
open("prog.py", "w").write("import sys\nprint(__name__, sys.argv[0])\nif __name__ == '__main__':\n    1 / 0\n")
print(sorted(runpy.run_path("prog.py"))[:3])
runpy.run_path("prog.py", run_name="__main__")
