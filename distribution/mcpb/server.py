"""The server of the MCPB bundle: what was entered in the host's form becomes options of mcp-agentrun.

Arguments are the folders to show, since a list can't be put into an environment variable by the manifest.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

__all__ = ["options"]


def options(folders: Sequence[str], form: Mapping[str, str]) -> list[str]:
    """Return the command line for what was entered. A host leaves ``${...}`` for a field without a value."""
    fields = [
        *(("--data={}", folder) for folder in folders),
        ("--memory={}g", form.get("BUNDLE_MEMORY", "")),
        ("--out={}", form.get("BUNDLE_OUT", "")),
        ("--preinstall={}", form.get("BUNDLE_PACKAGES", "")),
        ("--network=bridge", "true" if form.get("BUNDLE_INTERNET") == "true" else ""),
    ]
    return [option.format(value) for option, value in fields if value and not value.startswith("${")]


if __name__ == "__main__":
    from mcp_agentrun.__main__ import main

    sys.argv[1:] = options(sys.argv[1:], os.environ)
    main()
