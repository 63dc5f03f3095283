"""The runner imports the standard library, and those modules of the host's package that are copied into the image."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_agentrun.engine.docker.image import ImageRecipe
from tests.support import CHECKOUT

FOLDER = CHECKOUT / "runner_image" / "runner"
SHARED = ("mcp_agentrun.wire", "mcp_agentrun.notebook", "mcp_agentrun.safety", "mcp_agentrun.packages.pins")
INSTALLER = ("installer.py", "install_context.py", "installation.py", "resolution.py")
"""What runs in the installer alone, which has packaging as well."""


def imports(path: Path) -> Iterator[str]:
    """The modules that the file at *path* imports anywhere, but for relative ones."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module is not None
            yield node.module


def is_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_the_runner_imports_the_standard_library_only(path: Path) -> None:
    allowed = (*sys.stdlib_module_names, *SHARED, "runner", *(("packaging",) if path.name in INSTALLER else ()))
    assert [module for module in imports(path) if not is_in(module, allowed)] == []


def test_what_the_runner_imports_of_ours_is_in_the_image() -> None:
    files = ImageRecipe().runner_files()
    ours = {module for path in FOLDER.rglob("*.py") for module in imports(path) if is_in(module, ("mcp_agentrun",))}
    for module in ours:
        name = module.replace(".", "/")
        assert f"{name}.py" in files or any(file.startswith(f"{name}/") for file in files), module
    for path in FOLDER.rglob("*.py"):
        assert f"runner/{path.relative_to(FOLDER).as_posix()}" in files
