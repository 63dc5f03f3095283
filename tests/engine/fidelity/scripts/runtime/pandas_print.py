import pandas as pd
df = pd.DataFrame({"a": range(100), "b": 1.5})
print(df)
print(df.describe())
