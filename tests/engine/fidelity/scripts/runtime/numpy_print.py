import numpy as np
print(np.arange(12).reshape(3, 4), np.float64(1.5), repr(np.array([1.0, 2.0])))
