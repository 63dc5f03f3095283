"""Sanitize text from code, packages and servers, which may imitate the server's own lines or hide something."""

from __future__ import annotations

import functools
import re
import unicodedata

from .engine.network import redact

__all__ = ["ESCAPES", "encodable", "escape_marks", "plain_text", "quoted", "sanitize"]

_MARK = "[agentrun"
"""Beginning of the server's own lines."""

ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|[\x90\x98\x9d-\x9f][^\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]|\x1b"
)
"""Escape sequences of terminals, in their 7-bit and 8-bit forms."""

_STRINGS = re.compile(r"\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]")
"""Beginnings of escape sequences that may span several lines, up to the end of the text."""

_BREAKS = re.compile("([\n\r\x08\x0b\x0c\x1c-\x1e\x84\x85\x8d\u2028\u2029]+)")
_MOVES = re.compile(r"((?:\x1b\[|\x9b)[0-?]*[ -/]*[@-ln-~]|\x1b[78DEHMc])")  # all CSI sequences but colours
"""Escape sequences after which a terminal writes at another place."""

_OPENING = (
    "\\[\u2045\u2308\u230a\u2329\u2768-\u2775\u27c5\u27e6-\u27ef\u2983-\u2998\u29d8-\u29db\u29fc\u2e22-\u2e29\u2e55-\u2e5b"
    "\u3008-\u301b\ufe17\ufe39-\ufe48\ufe5d\uff3b\uff5f\uff62\u23a1-\u23a3"
)


_CANDIDATE = re.compile(rf"[{_OPENING}](?=(?:[^!-~]|[agentru]){{8}})[^!-~]*(?:a|(?<=[^\x00-\x7f]))", re.IGNORECASE)
"""Matches every imitation of the mark, and more: a bracket, followed by possible letters of the mark or characters
between them.
"""

_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0\ufffc")  # letters and symbols that are blank
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
"""Letters that look like one of the mark's: Greek, Cyrillic, Armenian, Cherokee, Lisu and others."""


_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Control characters except tab, line feed and return, bidirectional controls, and characters without a glyph, such as
variation selectors and tags, which can hide a whole message.
"""

_SURROGATES = re.compile("[\ud800-\udfff]")
_LONGEST = 8000
_LONGEST_NAME = 200


def sanitize(text: str, *, lines: bool = False, limit: int = _LONGEST) -> str:
    """Make *text* from code, a package, an index or an exception safe for an answer or a log.

    Passwords in URLs and invisible characters are removed, and lines that look like the server's own are escaped.

    :param lines: keep the lines, and indent all but the first; otherwise join them.
    :param limit: longest result in characters; the middle of a longer text is left out.
    """
    if len(text) <= limit and text.isascii() and text.isprintable() and "[" not in text and "@" not in text:
        return text
    # Passwords are removed last, because invisible characters may hide one.
    kept = [line.rstrip() for part in ESCAPES.sub("", text).splitlines() if (line := plain_text(part)).strip()]
    if lines:
        text = _shortened(redact("\n".join(kept)), limit)
        return "\n".join(
            line if number == 0 or line.startswith("  ") else "  " + line
            for number, line in enumerate(escape_marks(text).split("\n"))
        )
    return escape_marks(_shortened(redact(" ".join(line.strip() for line in kept)), limit))


def quoted(name: str) -> str:
    """Return a *name* in quotes and on one line, with invisible characters escaped as in Python."""
    return _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], repr(_shortened(name, _LONGEST_NAME)))


def encodable(text: str) -> str:
    """Return *text* with U+FFFD in place of lone surrogates, which UTF-8 can't encode."""
    return _SURROGATES.sub("\ufffd", text)


def plain_text(text: str) -> str:
    """Return *text* without escape sequences and invisible characters. Line breaks are kept."""
    return encodable(_HIDDEN.sub("", ESCAPES.sub("", text)))


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    left = limit - len(_GAP)
    return text[: left - left // 3] + _GAP + text[len(text) - left // 3 :]


_GAP = " ... "


def escape_marks(text: str) -> str:
    r"""Return *text* with a ``\`` before everything that looks like the server's mark at the beginning of a line."""
    plain = text.isascii() and "\x1b" not in text
    if _CANDIDATE.search(text) is None and (
        plain or (_STRINGS.search(text) is None and _CANDIDATE.search(ESCAPES.sub("", text)) is None)
    ):
        return text
    return "".join(map(_escape_line, _BREAKS.split(text)))


def _escape_line(line: str) -> str:
    """Mark *line* both for readers that show escape sequences and for those that interpret them."""
    if _begins_with_mark(line):
        return "\\" + line
    if ESCAPES.search(line) is None:
        return line
    return "".join("\\" + part if _begins_with_mark(ESCAPES.sub("", part)) else part for part in _MOVES.split(line))


def _begins_with_mark(part: str) -> bool:
    found = 0
    for character in part:
        for seen in _seen(character):
            if seen != _MARK[found]:
                return False
            found += 1
            if found == len(_MARK):
                return True
    return False


@functools.lru_cache(1 << 12)
def _seen(character: str) -> str:
    """Return what *character* looks like: nothing, a character of the mark, or something else."""
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
