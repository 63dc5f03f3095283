import sys
import pandas as pd
sys.displayhook(pd.DataFrame({"a": range(40)}))
