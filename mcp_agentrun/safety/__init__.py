"""The static check: what code would do, judged before it runs, with a remedy for each objection.

    from mcp_agentrun.safety import check

    verdict = check("import os; os.system('ls')")
    verdict.allowed             # False
    verdict.findings[0].rule    # "process-spawn"

How it goes: `guards` measures and parses (`scanner` counts tokens); `symbols` notes who binds what; `evaluator` says
what an expression may stand for, on top of `resolver` (names), `namespaces` (those of modules, as mappings),
`summaries` and `lookups` (calls of known functions), `iteration` (comprehensions) and `folding` (operators, methods);
`policy` visits the whole tree (`visitor`) and asks the rules, which are in `rules` where a name alone is against them,
and otherwise by topic: `bombs`, `databases`, `execution`, `files`, `latent`, `reflection`, `system`, `tampering`,
`written`.

It stops accidents and the obviously hostile early. It is no boundary: the container is. The package is pure, knows no
other part of mcp_agentrun, and runs unchanged inside the runner image, where it judges with the Python that executes.
"""

from __future__ import annotations

from .check import check, prepare
from .names import Names
from .verdict import PROFILES, Finding, Profile, Verdict

__all__ = ["PROFILES", "Finding", "Names", "Profile", "Verdict", "check", "prepare"]
