"""Every command and every piece of code of the documentation, run as the page shows it."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from tests.support import CHECKOUT
from tests.support.pages import PAGES, SCRIPTS, Block, Runner, blocks

pytest.importorskip("pexpect")

IN_A_CLONE = ("README.md", "docs/command-line.md", "docs/tracing.md", "docs/tutorial.md")
"""Pages whose commands are typed in a clone of the repository."""


def _name(page: Path) -> str:
    return page.relative_to(CHECKOUT).as_posix()


def _runnable(page: Path) -> list[Block]:
    return [
        block
        for block in blocks(page)
        if block.language in {*SCRIPTS, "output"} and not block.comment.startswith("not run")
    ]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("page", [page for page in PAGES if _runnable(page)], ids=_name)
def test_blocks_do_what_they_show(page: Path, tmp_path: Path, runner_image: str) -> None:
    folder = tmp_path / "work"
    if _name(page) in IN_A_CLONE:
        left_out = shutil.ignore_patterns(".*", "node_modules", "__pycache__", "build", "dist")
        shutil.copytree(CHECKOUT, folder, ignore=left_out)
    else:
        folder.mkdir()
    runner = Runner(folder, _free_port())
    try:
        for block in _runnable(page):
            runner.run(block)
    finally:
        runner.close()
