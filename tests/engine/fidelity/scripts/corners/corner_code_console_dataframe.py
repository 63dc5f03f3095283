import code
code.InteractiveInterpreter().runsource("import pandas as pd; pd.DataFrame({'a': [1]})")
print("end")
