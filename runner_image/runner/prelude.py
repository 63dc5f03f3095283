"""What modules of the runner import first.

A process that runs user code shares its modules with it, so user code may replace anything in them. Functions of the
runner therefore find built-in names in a copy, which importing `__builtins__` is enough for, and import other functions
by name.
"""

import builtins

__builtins__ = dict(vars(builtins))

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as Any
    from typing import NoReturn as NoReturn
else:
    Any = NoReturn = None  # importing `typing` takes 2 ms, for which a first answer would wait
