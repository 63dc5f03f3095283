"""The server of the MCPB bundle: settings of the host's form become those of mcp-agentrun.

Arguments are the folders to show, since a list can't be put into an environment variable by the manifest.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from sys import argv

__all__ = ["settings"]


def settings(folders: Sequence[str], form: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables for what was entered. A host leaves ``${...}`` for a field without a value."""
    entered = {key: value for key, value in form.items() if value and not value.startswith("${")}
    found = {
        "AGENTRUN_DATA": os.pathsep.join(folder for folder in folders if folder and not folder.startswith("${")),
        "AGENTRUN_MEMORY": entered["BUNDLE_MEMORY"] + "g" if "BUNDLE_MEMORY" in entered else "",
        "AGENTRUN_NETWORK": "bridge" if entered.get("BUNDLE_INTERNET") == "true" else "",
        "AGENTRUN_OUT": entered.get("BUNDLE_OUT", ""),
        "AGENTRUN_PREINSTALL": entered.get("BUNDLE_PACKAGES", ""),
    }
    return {name: value for name, value in found.items() if value}


if __name__ == "__main__":
    from mcp_agentrun.__main__ import main

    os.environ.update(settings(argv[1:], os.environ))
    del argv[1:]
    main()
