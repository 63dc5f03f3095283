"""Rules on SQL that is executed: statements that read and write files of the system."""

from __future__ import annotations

import ast
import re

from .paths import objection
from .visitor import Visitor

__all__ = ["statement"]

_METHODS = frozenset(
    ("execute", "executescript", "executemany", "sql", "query", "read_sql", "read_sql_query", "from_query")
)
_WRITES = re.compile(
    r"(?:\bATTACH\s+(?:DATABASE\s+)?|\bINTO\s+(?:OUTFILE\s+|DUMPFILE\s+)?|\bTO\s+|\bwritefile\s*\(\s*)['\"]([^'\"]+)['\"]",
    re.IGNORECASE,
)
_READS = re.compile(
    r"(?:\bFROM\s+|\b(?:read_\w+|readfile|parquet_scan|csv_scan|glob|sniff_csv|pg_read_file)\s*\(\s*\[?\s*)['\"]([^'\"]+)['\"]",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"\bload_extension\s*\(|\b(INSTALL|LOAD)\s+\w+\s*;?\s*$|\bPROGRAM\s+'|\bsys_exec\s*\(", re.IGNORECASE
)


def statement(visitor: Visitor, node: ast.Call, method: str) -> None:
    """A method that may execute SQL is called."""
    if method not in _METHODS:
        return
    for argument in node.args[:1]:
        for text in visitor.evaluator.texts(argument, visitor.scope):
            for pattern, write in ((_WRITES, True), (_READS, False)):
                for path in pattern.findall(text[: 1 << 16]):
                    found = objection(path.removeprefix("file:").partition("?")[0], write=write)
                    if found is not None:
                        visitor.refuse("sensitive-path", node, f"This statement touches {found}.")
            if _CODE.search(text[: 1 << 16]):
                visitor.refuse("native-code", node, "This statement loads code, or starts a program.")
