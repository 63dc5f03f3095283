"""What code imports of IPython where it is not installed: `display` and its classes, and `get_ipython`.

The runner puts its own functions in the place of these; in other processes they print.
"""

from .core.display_functions import display
from .core.getipython import get_ipython

__all__ = ["display", "get_ipython", "version_info"]

version_info = (9, 0, 0, "")
__version__ = "9.0.0"
