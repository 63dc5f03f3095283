import numpy as np
try: raise RuntimeError(np.array([1, 2]))
except RuntimeError as e: raise ValueError("outer") from e
