"""See `IPython`."""

from ..display import *  # noqa: F403
