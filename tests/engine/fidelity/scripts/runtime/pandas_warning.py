import pandas as pd
s = pd.Series([1, 2, 3])
print(s.groupby([1, 1, 2]).sum())
