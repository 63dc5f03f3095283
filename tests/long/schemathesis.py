"""The REST APIs against their OpenAPI document: `make schemathesis`.

Exits with 1 where an answer is a server error or is not documented.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.http_server import http_server

VERSION = "4.32.5"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
SETTINGS = (
    *("--rate-limit", "100000", "--stranger-limit", "100000"),
    *("--timeout", "2", "--max-timeout", "5"),
    *("--max-total", "20", "--idle-ttl", "5"),  # what it creates, it does not delete
)
LONGEST_ANSWER = "60"
"""In seconds: a call waits for the quota."""


REFUSING = ("--stranger-limit", "10", "--body-limit", "1k")


def main() -> int:
    """Try a server that lets everyone in, and one that lets nobody in: its answers are those in front of the routes."""
    chosen = sys.argv[1:] or ("-n", "30")
    return checked(False, *SETTINGS, arguments=chosen) or checked(True, *SETTINGS, *REFUSING, arguments=("-n", "3"))


def checked(auth: bool, *settings: str, arguments: Sequence[str]) -> int:
    """Return the exit code of schemathesis for a server with *settings*."""
    uv = str(Path(sys.executable).with_name("uv"))
    with tempfile.TemporaryDirectory() as folder, http_server(Path(folder), *settings, auth=auth) as server:
        return subprocess.run(
            [
                *(uv, "tool", "run", "--from", f"schemathesis=={VERSION}", "schemathesis", "run"),
                *(f"{server.url}/openapi.json", "--checks", ",".join(CHECKS), "--continue-on-failure"),
                *("--request-timeout", LONGEST_ANSWER, *arguments),
            ],
            cwd=folder,
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
