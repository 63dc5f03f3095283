r"""Keeping what code prints from passing for a line of ours, which begins with ``[agentrun]``."""

from __future__ import annotations

import functools
import re
import unicodedata

__all__ = ["ESCAPES", "unmarked"]

_OURS = "[agentrun"

ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|[\x90\x98\x9d-\x9f][^\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]|\x1b"
)
"""Escape sequences of terminals, in seven bits and in eight."""

_STRINGS = re.compile(r"\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]")
"""What begins an escape sequence that ends anywhere, or nowhere: in a text of several lines it takes all of them."""

_BREAKS = re.compile("([\n\r\x08\x0b\x0c\x1c-\x1e\x84\x85\x8d\u2028\u2029]+)")
_MOVES = re.compile(r"((?:\x1b\[|\x9b)[0-?]*[ -/]*[@-ln-~]|\x1b[78DEHMc])")  # all of CSI but colours
"""What a terminal begins to write at another place after: characters, and escape sequences."""

_OPENING = (
    "\\[\u2045\u2308\u230a\u2329\u2768-\u2775\u27c5\u27e6-\u27ef\u2983-\u2998\u29d8-\u29db\u29fc\u2e22-\u2e29\u2e55-\u2e5b"
    "\u3008-\u301b\ufe17\ufe39-\ufe48\ufe5d\uff3b\uff5f\uff62\u23a1-\u23a3"
)


_CANDIDATE = re.compile(rf"[{_OPENING}](?=(?:[^!-~]|[agentru]){{8}})[^!-~]*(?:a|(?<=[^\x00-\x7f]))", re.IGNORECASE)
"""Where there is a mark, it is found: a bracket, and then what may stand for letters of ours or between them."""

_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0\ufffc")  # letters and symbols that show nothing
_INVISIBLE = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Mn", "Me", "Mc", "Zs", "Zl", "Zp"))

_LATIN = re.compile(r"LATIN (?:CAPITAL |SMALL )?LETTER (?:SMALL CAPITAL )?([AGENTRU])(?: WITH .*)?")
_ALIKE = {
    other: letter
    for letter, others in {
        "a": "\u0251\u0430\u03b1\u0391\u0410\u13aa\ua4ee",
        "g": "\u0261\u0581\u050d\u050c\u13c0\ua4d6",
        "e": "\u0435\u04bd\u0415\u0395\u03b5\u212e\u13ac\ua4f0",
        "n": "\u0578\u03b7\u043f\u039d\u03bd\ua4e0\u057c",
        "t": "\u0442\u0422\u03c4\u03a4\u13a2\ua4d4",
        "r": "\u0433\u13a1\u13d2\ua4e3",
        "u": "\u057d\u054d\u03c5\u0446\u144c\ua4f4\u1200",
    }.items()
    for other in others
}
"""Letters of other scripts that look like one of ours: Greek, Cyrillic, Armenian, Cherokee, Lisu and a few."""


def unmarked(text: str) -> str:
    r"""*text* with a ``\`` before whatever would look like our mark at the beginning of a line."""
    plain = text.isascii() and "\x1b" not in text
    if _CANDIDATE.search(text) is None and (
        plain or (_STRINGS.search(text) is None and _CANDIDATE.search(ESCAPES.sub("", text)) is None)
    ):
        return text
    return "".join(map(_line_unmarked, _BREAKS.split(text)))


def _line_unmarked(line: str) -> str:
    """For a reader who sees escape sequences, and for one who doesn't."""
    if _begins_as_ours(line):
        return "\\" + line
    if ESCAPES.search(line) is None:
        return line
    return "".join("\\" + part if _begins_as_ours(ESCAPES.sub("", part)) else part for part in _MOVES.split(line))


def _begins_as_ours(part: str) -> bool:
    found = 0
    for character in part:
        for seen in _seen(character):
            if seen != _OURS[found]:
                return False
            found += 1
            if found == len(_OURS):
                return True
    return False


@functools.lru_cache(1 << 12)
def _seen(character: str) -> str:
    """What a reader takes *character* for: nothing, one of the mark's, or something else."""
    if "!" <= character <= "~":
        return character.lower()
    seen = ""
    for part in unicodedata.normalize("NFKD", character):
        category = unicodedata.category(part)
        if category in _INVISIBLE or part in _BLANK:
            continue
        if category == "Ps" or "\u23a1" <= part <= "\u23a3":
            seen += "[" if part not in "({" else part
            continue
        latin = _LATIN.fullmatch(
            unicodedata.name(part, "").removeprefix("NEGATIVE CIRCLED ").removeprefix("NEGATIVE SQUARED ")
        )
        seen += latin[1].lower() if latin else _ALIKE.get(part, part.casefold())
    return seen
