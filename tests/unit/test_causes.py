"""What the sandbox refuses is explained in one line, whichever exception or program says so."""

from __future__ import annotations

import pytest

from mcp_agentrun.packages.known import WELL_KNOWN
from mcp_agentrun.sandbox import Cause, RunError
from mcp_agentrun.sandbox.causes import NameKind, explain
from mcp_agentrun.settings import Settings
from tests.support.small import SMALL

pytestmark = pytest.mark.anyio

TEXTS = {
    "ImportError: Missing optional dependency 'tabulate'.  Use pip or conda to install tabulate.": "tabulate package",
    "ImportError: Missing optional dependency 'openpyxl'.": "openpyxl package",
    "ImportError: lxml not found, please install it": "lxml perhaps",
    "FeatureNotFound: Couldn't find a tree builder with the features you requested: lxml. Do": "lxml perhaps",
    "ValueError: This requires the Kaleido package:\n\n$ pip install -U kaleido": "kaleido package",
    "RuntimeError: The starlette.testclient module requires the httpx package to be installed.": "httpx perhaps",
    'RuntimeError: Form data requires "python-multipart" to be installed.\npip install python-multipart\n': (
        "python-multipart package"
    ),
    "ImportError: the 'h2' package is not installed. Make sure to `pip install httpx[http2]`.": "httpx[http2] package",
    "ModuleNotFoundError: No module named 'rich'": "rich module",
    "ModuleNotFoundError: No module named 'rich.nosuch'": None,
    "ImportError: cannot import name 'x' from 'rich'": None,
    "ValueError: This function requires positive numbers": None,
}


@pytest.mark.parametrize("text", TEXTS)
def test_names_of_packages_are_read_out_of_messages(text: str) -> None:
    def advise(name: str, kind: NameKind) -> str | None:
        return None if kind == "perhaps" and name.lower() not in WELL_KNOWN else f"{name} {kind}"

    kind, _, message = text.partition(": ")
    error = RunError(kind, message, 1, (Cause(kind, message),))
    assert explain("error", error, b"", SMALL, advise) == TEXTS[text]
    assert explain("error", error, b"", SMALL, None) is None


async def test_with_a_network_nothing_is_said_of_it() -> None:
    open_ = Settings(network="bridge")
    error = RunError("gaierror", "[Errno -2] Name or service not known", 1, (Cause("gaierror", "", 101),))
    assert explain("error", error, b"Temporary failure in name resolution\n", open_, None) is None


async def test_what_was_stopped_needs_no_other_explanation() -> None:
    assert explain("timeout", None, b"sh: 1: ffmpeg: not found\n", SMALL, None) is None
