"""The REST APIs against their OpenAPI document: `make schemathesis`.

Exits with 1 where an answer is a server error or is not documented.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
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


def main() -> int:
    uv = str(Path(sys.executable).with_name("uv"))
    with (
        tempfile.TemporaryDirectory() as folder,
        http_server(Path(folder), *SETTINGS, auth=False) as server,
    ):
        return subprocess.run(
            [
                *(uv, "tool", "run", "--from", f"schemathesis=={VERSION}", "schemathesis", "run"),
                *(f"{server.url}/openapi.json", "--checks", ",".join(CHECKS), "--continue-on-failure"),
                *("--request-timeout", LONGEST_ANSWER, *(sys.argv[1:] or ("-n", "30"))),
            ],
            cwd=folder,
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
