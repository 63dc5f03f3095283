r"""Text of others: kept from passing for a line of ours, which begins with ``[agentrun]``, and from hiding anything."""

from __future__ import annotations

import functools
import re
import unicodedata

from .engine.network import redact

__all__ = ["ESCAPES", "foreign", "plain_text", "quoted", "unmarked"]

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


_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Controls but tab, line feed and return; what turns the direction of text; and what Unicode has no glyph for, among
which are variation selectors and tags, in which a whole message can be hidden.
"""

_SURROGATES = re.compile("[\ud800-\udfff]")
_LONGEST = 8000
_LONGEST_NAME = 200


def foreign(text: str, *, lines: bool = False, limit: int = _LONGEST) -> str:
    """*text* in which others have a say, such as code, a package, an index or an exception, as it may stand in a line
    of ours: in an answer, a message or a log. It has no password, shows all that it holds, and passes for no line of
    ours.

    :param lines: keep its lines apart, all but the first indented; otherwise it becomes a single one.
    :param limit: longest length in characters; the middle of what is longer is left out.
    """
    if len(text) <= limit and text.isascii() and text.isprintable() and "[" not in text and "@" not in text:
        return text
    # Passwords are looked for last: an invisible character may be in the way of finding one.
    kept = [line.rstrip() for part in ESCAPES.sub("", text).splitlines() if (line := plain_text(part)).strip()]
    if lines:
        text = _shortened(redact("\n".join(kept)), limit)
        return "\n".join(
            line if number == 0 or line.startswith("  ") else "  " + line
            for number, line in enumerate(unmarked(text).split("\n"))
        )
    return unmarked(_shortened(redact(" ".join(line.strip() for line in kept)), limit))


def quoted(name: str) -> str:
    """A *name* that others have chosen, in quotes and on one line. What can't be seen is escaped, as Python does it."""
    return _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], repr(_shortened(name, _LONGEST_NAME)))


def plain_text(text: str) -> str:
    """*text* without escape sequences and what is invisible; its lines stay as they are."""
    return _SURROGATES.sub("\ufffd", _HIDDEN.sub("", ESCAPES.sub("", text)))


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    left = limit - len(_GAP)
    return text[: left - left // 3] + _GAP + text[len(text) - left // 3 :]


_GAP = " ... "


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
