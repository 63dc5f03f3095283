"""Rules on system calls: descriptors, processes and permissions that are not the code's own."""

from __future__ import annotations

import ast

from .visitor import Visitor

__all__ = ["ON_DESCRIPTORS", "descriptor", "kill", "mode", "opened"]

ON_DESCRIPTORS = frozenset(
    """
    os.write os.fdopen os.read os.sendfile os.close os.ftruncate os.pread os.pwrite
""".split()
)


def opened(visitor: Visitor, node: ast.Call, _name: str) -> None:
    """A call of `open`."""
    if node.args and any(number > 2 for number in visitor.evaluator.integers(node.args[0], visitor.scope)):
        visitor.refuse("system-call", node, "This opens a descriptor that is not the code's own.")


def descriptor(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A call of one of `ON_DESCRIPTORS`."""
    numbers = visitor.evaluator.integers(node.args[0], visitor.scope) if node.args else []
    if any(number > 2 for number in numbers) and name != "os.close":
        visitor.refuse("system-call", node, f"{name} on a descriptor that is not the code's own.")


def kill(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A call that sends a signal."""
    numbers = visitor.evaluator.integers(node.args[0], visitor.scope) if node.args else []
    targets = visitor.evaluator.references(node.args[0], visitor.scope) if node.args else []
    if "os.getpid()" not in targets or numbers:
        visitor.refuse("system-call", node, f"{name} on a process that is not the code's own.")


def mode(visitor: Visitor, node: ast.Call, _name: str) -> None:
    """A call that sets permissions."""
    arguments = node.args[1:]
    if any(number & 0o6000 for item in arguments for number in visitor.evaluator.integers(item, visitor.scope)):
        visitor.refuse("system-call", node, "This makes a file run with its owner's rights.")
