"""What the tests share, and none of them is."""

from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
