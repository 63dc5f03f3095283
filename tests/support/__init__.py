"""What the tests share, and none of them is."""

from pathlib import Path

CHECKOUT = Path(__file__).parents[2]

BARE = {"AGENTRUN_PRELOAD": ""}
"""Makes servers whose sandboxes import nothing in advance: that takes longer than most tests, and few are about it."""
