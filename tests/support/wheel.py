"""The wheel that is published, installed as a user has it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tests.support import CHECKOUT

__all__ = ["Installed", "build_sdist", "build_wheel", "install_wheel"]


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel, and with the dependencies of the one that runs the tests."""

    folder: Path

    @property
    def command(self) -> str:
        return str(self.folder / ("Scripts" if os.name == "nt" else "bin") / "mcp-agentrun")

    @property
    def python(self) -> str:
        return str(Path(self.command).with_name("python"))


def build_wheel(folder: Path, source: Path = CHECKOUT) -> Path:
    """Build the wheel of *source* in *folder*, without the network."""
    _build("wheel", folder, source)
    return next(folder.glob("*.whl"))


def build_sdist(folder: Path) -> Path:
    """Build the sdist of the checkout in *folder*, without the network."""
    _build("sdist", folder, CHECKOUT)
    return next(folder.glob("*.tar.gz"))


def _build(target: str, folder: Path, source: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)


def install_wheel(wheel: Path, folder: Path) -> Installed:
    """Install *wheel* in a new virtual environment, without the network."""
    uv = [sys.executable, "-m", "uv", "--quiet", "--offline"]
    subprocess.run([*uv, "venv", "--python", sys.executable, str(folder)], check=True)
    installed = Installed(folder)
    subprocess.run([*uv, "pip", "install", "--python", installed.python, "--no-deps", str(wheel)], check=True)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([installed.python, "-c", code], check=True, capture_output=True, text=True)
    # Python does not read the .pth files of this folder, so that the checkout itself can't be imported.
    Path(found.stdout.strip(), "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return installed
