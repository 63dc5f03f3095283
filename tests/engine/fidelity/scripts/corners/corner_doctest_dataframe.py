import doctest
import pandas as pd
def f():
    """
    >>> pd.DataFrame({"a": [1, 2]})
       a
    0  1
    1  2
    """
print(doctest.testmod())
