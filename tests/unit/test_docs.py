"""The documentation agrees with the project: settings, links, paths and targets that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.agent_examples import EXAMPLES

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "examples" / "README.md"]
NOT_OURS = {"output/", "notifications/message", "logging/setLevel"}
"""What looks like a path of the project and is none: a folder of sandboxes, methods of the protocol."""
PAGES_BY_NAME = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def _text(page: Path) -> str:
    return page.read_text("utf-8")


def _anchors(page: Path) -> set[str]:
    """The anchors of the headings, as code hosts derive them."""
    headings = re.findall(r"^#+ (.+)$", _text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@PAGES_BY_NAME
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _text(page)):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            linked = (page.parent / path).resolve() if path else page
            assert linked.exists(), target
            assert not anchor or anchor in _anchors(linked), target


@PAGES_BY_NAME
def test_paths_and_targets_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return
    text = _text(page)
    roots = [ROOT, ROOT / "runner_image", ROOT / "mcp_agentrun"]
    for path in re.findall(r"`([a-z_]+/[\w./-]*|[a-z_]+\.py)`", text):
        if path not in NOT_OURS:
            assert any((root / path).exists() for root in roots), path
    targets = set(re.findall(r"^([a-z-]+):", _text(ROOT / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets


def test_the_walk_names_functions_that_exist() -> None:
    walk = _text(ROOT / "docs" / "architecture.md").split("## One call")[1].split("\n## ")[0]
    sources = [_text(path) for folder in ("mcp_agentrun", "runner_image") for path in (ROOT / folder).rglob("*.py")]
    named = re.findall(r"`(\w+)\.(\w+)`", walk)
    assert named
    for owner, function in named:
        assert any(f"class {owner}" in source and f"def {function}(" in source for source in sources), (
            f"{owner}.{function}"
        )


def test_every_example_is_described_and_tested() -> None:
    examples = {path.name: _text(path) for path in (ROOT / "examples").glob("*.py")}
    assert set(re.findall(r"\]\((\w+\.py)\)", _text(ROOT / "examples" / "README.md"))) == set(examples)
    assert {name for name, text in examples.items() if "# /// script" in text} == {f"{name}.py" for name in EXAMPLES}
