import os, pathlib
print(__file__, os.path.basename(__file__) == os.path.basename(__import__("sys").argv[0]), pathlib.Path(__file__).name == os.path.basename(__file__))
print(__file__ == (lambda: 0).__code__.co_filename, __cached__)
