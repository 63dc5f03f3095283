"""The page of figures is what the measurements in its file say."""

from __future__ import annotations

import json

from benchmarks.peers.report import page
from tests.support import CHECKOUT

DOCS = CHECKOUT / "docs"


def test_the_page_shows_what_was_measured() -> None:
    found = json.loads((DOCS / "figures.json").read_text("utf-8"))
    assert (DOCS / "figures.md").read_text("utf-8") == page(found)
