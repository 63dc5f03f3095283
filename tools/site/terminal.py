"""What a command shows in a terminal, as an SVG picture: ``python -m tools.site.terminal PICTURE TITLE COMMAND...``."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any, cast

import pexpect
from rich.console import Console
from rich.text import Text

WIDTH = 110
SECONDS = 120


def draw(title: str, command: list[str]) -> str:
    """Return the picture of what *command* shows.

    :raises RuntimeError: it fails.
    """
    shown = io.StringIO()
    terminal = cast("Any", pexpect.spawn)(
        command[0], command[1:], encoding="utf-8", timeout=SECONDS, dimensions=(50, WIDTH)
    )
    terminal.logfile_read = shown
    terminal.expect(pexpect.EOF)
    terminal.close()
    if terminal.exitstatus:
        raise RuntimeError(f"exit code {terminal.exitstatus}\n{shown.getvalue()}")
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text.from_ansi(shown.getvalue().replace("\r\n", "\n")), soft_wrap=False)
    # Its fonts would come from another host.
    return re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title=title), flags=re.DOTALL)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(sys.argv[2], sys.argv[3:]), "utf-8")
