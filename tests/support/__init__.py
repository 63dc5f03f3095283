"""Helpers shared by the tests and the benchmarks."""

from pathlib import Path

CHECKOUT = Path(__file__).parents[2]

BARE = {"AGENTRUN_PRELOAD": ""}
"""Environment of servers whose sandboxes preload no packages, which takes longer than most tests do."""
