"""What modules of the runner import first.

A process that runs user code shares its modules with it, so user code may replace anything in them. Functions of the
runner therefore find built-in names in a copy, which importing `__builtins__` is enough for, and import other functions
by name.
"""

import builtins

__builtins__ = dict(vars(builtins))
TYPE_CHECKING = False  # instead of that of `typing`, whose import takes 2 ms, for which a first answer would wait
