"""The tables of docs/configuration.md, made from the settings' models: ``python -m tests.support.settings_table``."""

from __future__ import annotations

import re
from pathlib import Path

from mcp_agentrun.settings import SETTINGS

__all__ = ["PAGE", "with_tables"]

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def _table(group: str) -> str:
    lines = ["| setting | default | meaning | in Python |", "| --- | --- | --- | --- |"]
    for setting in SETTINGS.values():
        if setting.group == group:
            meaning = (setting.field.description or "").removesuffix(".")
            if setting.choices:
                meaning += f" ({', '.join(f'`{choice}`' for choice in setting.choices)})"
            default = f"`{setting.default}`" if setting.default else "none"
            lines.append(f"| `{setting.name}` | {default} | {meaning} | `{setting.group}.{setting.attribute}` |")
    return "\n".join(lines)


def with_tables(page: str) -> str:
    """*page* with the table of each group between ``<!-- settings: GROUP -->`` and ``<!-- end -->``."""
    return re.sub(
        r"(<!-- settings: (\w+) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}\n{_table(match[2])}\n\n{match[3]}",
        page,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
