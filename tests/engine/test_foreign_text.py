"""Hostile text from a sandbox is harmless when it reaches a client."""

from __future__ import annotations

import pytest

from tests.support.clients import OpenClient
from tests.support.hostile_text import HOSTILE, MARK, UNSEEN, reaching

pytestmark = pytest.mark.anyio


async def test_hostile_names_and_exceptions_from_a_sandbox(open_client: OpenClient) -> None:
    names = [HOSTILE[key] for key in ("a marked line", "tags", "bidi", "a return", "variation selectors")]
    names.append("x\udc80\udcff.txt")
    code = (
        f"for name in {names!a}: open(name, 'w').close()\n"
        f"class E(Exception): pass\nE.__name__ = E.__qualname__ = {HOSTILE['tags']!a}\n"
        f"raise E({HOSTILE['a line that looks like ours']!a} + {HOSTILE['tags']!a})"
    )
    async with open_client("--safety", "off") as client:
        answer = await client.call_tool("run_python", {"code": code})
        listed = await client.list_resources()
    text, *rest = reaching(answer)
    created = next(line for line in text.splitlines() if line.startswith("[agentrun] Created"))
    assert created.count("(0 B") == len(names)
    assert not UNSEEN.search(created)
    for string in (*rest, *(item.name for item in listed.resources)):
        assert not UNSEEN.search(string), ascii(string)
        assert not MARK.search(string)
