"""What the runner image is made of."""

from __future__ import annotations

import re

from tests.support import CHECKOUT


def pinned_versions() -> dict[str, str]:
    """Version by name, of each package that the image has by default."""
    text = (CHECKOUT / "runner_image" / "constraints.txt").read_text()
    return dict(re.findall(r"^(\S+)==(\S+) ;", text, re.MULTILINE))
