"""The documentation agrees with the project: settings, links, paths and targets that it names exist."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import mcp_agentrun
from tests.support.agent_examples import EXAMPLES
from tests.support.pages import DATA, SCRIPTS, SILENT, blocks, parse

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "examples" / "README.md"]
REPOSITORY = "https://github.com/mcp-agentrun/mcp-agentrun/blob/main/"
"""Before the paths of files that are not part of the site."""
NOT_OURS = {"build/site", "output/", "notifications/message", "logging/setLevel"}
"""What looks like a path of the project and is none: a folder of sandboxes, what is built, methods of the protocol."""
PAGES_BY_NAME = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def _text(page: Path) -> str:
    return page.read_text("utf-8")


def _anchors(page: Path) -> set[str]:
    """The anchors of the headings, as code hosts derive them."""
    headings = re.findall(r"^#+ (.+)$", _text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@PAGES_BY_NAME
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _text(page)):
        if target.startswith(REPOSITORY):
            assert (ROOT / target.removeprefix(REPOSITORY)).exists(), target
        elif "://" in target:
            url = urlsplit(target)
            assert url.scheme == "https" and re.fullmatch(r"([a-z0-9-]+\.)+[a-z]+", url.netloc), target
        else:
            path, _, anchor = target.partition("#")
            linked = (page.parent / path).resolve() if path else page
            assert linked.exists(), target
            assert DOCS not in page.parents or DOCS in linked.parents, f"{target} is not part of the site"
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


@PAGES_BY_NAME
def test_blocks_are_of_known_languages(page: Path) -> None:
    for block in blocks(page):
        assert block.language in SCRIPTS | DATA | SILENT, block.where
        if block.language in DATA:
            parse(block)
        elif block.language == "python":
            compile(block.code, block.where, "exec")


def test_few_blocks_are_not_run() -> None:
    assert len([block for page in PAGES for block in blocks(page) if block.comment.startswith("not run")]) <= 16


def test_the_reference_lists_every_public_name() -> None:
    listed = re.findall(r"^::: mcp_agentrun\.(\w+)$", _text(ROOT / "docs" / "reference" / "library.md"), re.MULTILINE)
    assert sorted([*listed, "__version__"]) == sorted(mcp_agentrun.__all__)


def test_the_site_has_every_page() -> None:
    listed = re.findall(r'"([\w/-]+\.md)"', _text(ROOT / "zensical.toml"))
    docs = ROOT / "docs"
    assert sorted(listed) == sorted(page.relative_to(docs).as_posix() for page in docs.rglob("*.md"))


def _skeleton(page: Path) -> tuple[object, ...]:
    """What a translation leaves as it is: levels of headings, code, the first column of tables, links, and names."""
    text = _text(page)
    code = [
        (block.language, [line.partition("#")[0].rstrip() for line in block.code.splitlines()])
        for block in blocks(page)
        if block.language and block.comment != "hidden"
    ]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"<!--.*?-->", "", prose, flags=re.DOTALL)
    return (
        re.findall(r"^#+(?= )", prose, re.MULTILINE),
        code,
        re.findall(r"^\| (`.*?`|\[.*?) \|(?:.*(`.*`))?", prose, re.MULTILINE),
        sorted(set(re.findall(r"\]\(([^)]+)\)", prose)) - {"README.md", "README.ja.md"}),
        sorted(re.findall(r"`([^`\n]+)`", prose)),
        len(re.findall(r"^\* ", prose, re.MULTILINE)),
    )


def test_the_japanese_readme_says_what_the_english_one_says() -> None:
    assert _skeleton(ROOT / "README.ja.md") == _skeleton(ROOT / "README.md")


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
