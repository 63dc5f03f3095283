"""The commands of docs/audit.md, as an operator types them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import CHECKOUT

__all__ = ["AUDIT_PAGE", "HAS_JQ", "answers"]

AUDIT_PAGE = CHECKOUT / "docs" / "audit.md"
HAS_JQ = shutil.which("jq") is not None and os.name != "nt"


def answers(trail: Path) -> list[list[str]]:
    """The lines that each command of the page's section "Three questions" prints for *trail*."""
    part = AUDIT_PAGE.read_text("utf-8").split("## Three questions")[1].split("\n## ")[0]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "AGENTRUN_AUDIT_FILE": str(trail), "PATH": path}
    return [
        subprocess.run(
            ["sh", "-c", each], env=environ, stdout=subprocess.PIPE, text=True, check=True
        ).stdout.splitlines()
        for each in re.findall(r"^\$ (.+)$", part, re.MULTILINE)
    ]
