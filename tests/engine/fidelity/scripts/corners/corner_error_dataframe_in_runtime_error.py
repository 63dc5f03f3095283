import pandas as pd
raise RuntimeError(pd.DataFrame({"a": [1]}))
