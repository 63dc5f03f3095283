"""The packages pinned for the runner image."""

from __future__ import annotations

import re

from tests.support import CHECKOUT


def pinned_versions() -> dict[str, str]:
    """Version of each package that the image has by default, by name."""
    text = (CHECKOUT / "runner_image" / "constraints.txt").read_text()
    return dict(re.findall(r"^(\S+)==(\S+) ;", text, re.MULTILINE))
