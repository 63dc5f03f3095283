"""What AgentRun's README shows and its published tests check, by name, in programs of our own that ask for the same.

`tests/engine/test_compat.py` runs all of it against our class, and `benchmarks/agentrun.py` against both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["DIFFERENCES", "EXAMPLES", "SAFETY_CHECKS", "Example"]

_SAFE = "The code is safe to execute."


@dataclass(frozen=True)
class Example:
    """A program, and what comes of it."""

    name: str
    code: str
    theirs: str
    """What AgentRun's class returns: the output, or the message of the check."""
    ours: str | None = None
    """What ours returns instead."""
    why: str = ""
    """The reason for the difference."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Arguments of the constructor."""

    @property
    def expected(self) -> str:
        """What our class must return."""
        return self.theirs if self.ours is None else self.ours


def _dunder_globals() -> str:
    message = '"__globals__" is an invalid attribute name because it starts with "_".'
    return f"RestrictedPython detected an unsafe pattern: {(f'Line 3: {message}',)}"


SAFETY_CHECKS = (
    Example("a plain print", "print('hello')", _SAFE),
    Example("a syntax error", "print('hello'", "Syntax error: '(' was never closed (<unknown>, line 1)"),
    Example("import of os.path", "import os.path\nprint(os.path.sep)", "Unsafe module import: os.path"),
    Example("import from os", "from os import path\nprint(path.sep)", "Unsafe module import: os"),
    Example(
        "eval as an attribute",
        "class Holder:\n    def __init__(self):\n        self.eval = eval\n\nHolder().eval('1 + 1')",
        "Unsafe function call: eval",
    ),
    Example(
        "eval by way of __globals__",
        "def f(): pass\n\nf.__globals__['__builtins__']['eval']('1 + 1')",
        _dunder_globals(),
    ),
    Example("os.system", "import os\nos.system('rm -rf /')", "Unsafe module import: os"),
    Example("__import__", "name = 'os'\n__import__(name).system('ls')", "Unsafe function call: __import__"),
    Example("exec", "exec('import os')", "Use of dangerous built-in function: exec"),
    Example(
        "eval with os", "eval('os.getpid()', {'os': __import__('os')})", "Use of dangerous built-in function: eval"
    ),
    Example(
        "os from globals()", "globals()[chr(111) + chr(115)].getpid()", "Use of dangerous built-in function: globals"
    ),
    Example("os among harmless lines", "import os\nprint('harmless')\nos.system('ls')", "Unsafe module import: os"),
    Example(
        "a socket",
        "import socket\nsocket.create_connection(('example.com', 80))",
        _SAFE,
        ours="`socket` is not allowed in the profile `strict`. Do without it, or ask the operator for the profile "
        "`standard`.",
        why="a connection to anywhere is not safe",
    ),
    Example("open", "with open('secret.txt') as file:\n    print(file.read())", "Unsafe function call: open"),
    Example("subprocess", "import subprocess\nsubprocess.Popen(['ls'])", "Unsafe module import: subprocess"),
)

EXAMPLES = (
    Example("execution", "print('hello')", "hello\n"),
    Example("execution refused", "import os\nos.system('rm -rf /')", "Unsafe module import: os"),
    Example("within the timeout", "print('hello')", "hello\n", options={"default_timeout": 1}),
    Example("timeout", "import time\ntime.sleep(3)", "Execution timed out.", options={"default_timeout": 1}),
    Example(
        "a dependency, everything whitelisted",
        "import arrow\nprint(arrow.get('2024-02-29T10:30:00').format('YYYY-MM-DD HH:mm'))",
        "2024-02-29 10:30\n",
        options={"cached_dependencies": ["requests"]},
    ),
    Example(
        "a dependency that is not whitelisted",
        "import numpy\nprint(numpy.arange(3))",
        "Dependency: numpy is not in the whitelist.",
        options={"dependencies_whitelist": ["pandas"]},
    ),
    Example(
        "the standard library needs no whitelist",
        "import math\nprint(math.sqrt(9))",
        "3.0\n",
        options={"dependencies_whitelist": ["requests"]},
    ),
    Example(
        "a dependency that is whitelisted and cached",
        "import numpy\nprint(numpy.arange(3))",
        "[0 1 2]\n",
        options={"dependencies_whitelist": ["numpy"], "cached_dependencies": ["numpy"]},
    ),
    Example(
        "a whitelisted dependency that can reach the network",
        "import requests\nfrom requests import Request\nprint(Request('GET', 'http://example.com').method)",
        "GET\n",
        options={"dependencies_whitelist": ["requests"], "cached_dependencies": ["requests"]},
    ),
    Example(
        "a dependency that can reach the network and is not whitelisted",
        "import requests",
        "Dependency: requests is not in the whitelist.",
        options={"dependencies_whitelist": ["numpy"]},
    ),
    Example(
        "a dependency that does not exist",
        "import unknownpackage",
        "Failed to install dependency unknownpackage",
    ),
    Example(
        "the README's customised runner",
        "print('hello')",
        "hello\n",
        options={
            "dependencies_whitelist": ["requests"],
            "cached_dependencies": ["requests"],
            "default_timeout": 180,
            "memory_limit": "512mb",
            "memswap_limit": "1gb",
        },
    ),
    Example(
        "the README's first danger",
        "import os\n# deletes all files\nos.system('rm -rf /')",
        "Unsafe module import: os",
    ),
    Example("the README's arithmetic", "print(12345 * 54321)", "670592745\n"),
)

DIFFERENCES = (
    Example(
        "a method called compile",
        "import re\nprint(bool(re.compile('a').match('a')))",
        "Unsafe function call: compile",
        ours="True\n",
        why="only the built-in is dangerous",
    ),
    Example(
        "a whitelist given as a string",
        "import arrow\nprint('imported')",
        "imported\n",
        ours="Dependency: arrow is not in the whitelist.",
        why="a part of a name is not the name",
        options={"dependencies_whitelist": "broken-arrow"},
    ),
    Example(
        "a module whose package has another name",
        "import PIL\nprint('imported')",
        "Failed to install dependency PIL",
        ours="imported\n",
        why="the package is pillow",
    ),
    Example(
        "a relative import",
        "try:\n    from .nosuchhelpers import x\nexcept ImportError:\n    print('no helpers')",
        "Failed to install dependency nosuchhelpers",
        ours="no helpers\n",
        why="it names no package",
    ),
    Example(
        "too much memory",
        "x = bytearray(2_000_000_000)\nprint(len(x))",
        "",
        ours="Memory limit exceeded.\n",
        why="a limit that fires is named",
    ),
)
"""Where AgentRun's behaviour is a defect."""
