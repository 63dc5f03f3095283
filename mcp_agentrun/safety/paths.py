"""Which paths are none of the code's business. Pure text: nothing is looked up."""

from __future__ import annotations

import posixpath
import re
import sys

__all__ = ["HOLE", "WORKSPACE", "objection"]

HOLE = "\U0010fffe"
"""Stands in a text for a part that is not known."""

WORKSPACE = "/workspace"

_SYSTEM = re.compile(
    r"/(etc|proc|sys|boot|root|bin|sbin|lib|lib32|lib64|usr|var|run|dev|opt|srv|snap|packages)(?=/|$|\*)"
)
_READABLE = re.compile(
    r"/(usr/share/(dict|zoneinfo|fonts|nltk_data|misc|unicode|games|xml|mime)|usr/lib/python[\d.]*|usr/local/lib/python[\d.]*|usr/lib/locale|opt/venv|var/tmp"
    r"|dev/(null|zero|full|random|urandom|tty|stdin|stdout|stderr|shm)|proc/self/fd/[012])(?=/|$)"
)
_WRITABLE = re.compile(r"/(var/tmp|dev/(null|zero|full|tty|stdin|stdout|stderr|shm)|proc/self/fd/[012])(?=/|$)")
_SECRET = re.compile(
    r"(^|/|~)(\.(ssh|aws|azure|gnupg|kube|docker|netrc|pgpass|my\.cnf|git-credentials|pypirc|npmrc|ipython|bashrc"
    r"|bash_profile|bash_login|bash_logout|profile|zshrc|zshenv|zprofile|bash_history|zsh_history|python_history"
    r"|psql_history|mysql_history|config/(gcloud|gh|autostart|systemd|fish)|local/share/keyrings|mozilla|vault-token)"
    r"|id_(rsa|dsa|ecdsa|ed25519)|authorized_keys|docker\.sock|containerd\.sock|sitecustomize\.py|usercustomize\.py"
    r"|serviceaccount/token|etc/(passwd|shadow|gshadow|sudoers|group|master\.passwd))(\.pub)?(?=/|$|\*)"
)
_STDLIB = frozenset(sys.stdlib_module_names) - {"test", "code", "this", "calendar", "statistics", "queue", "types"}
_WIN = re.compile(r"^[A-Za-z]:[\\/](Windows|Users|ProgramData)\b", re.IGNORECASE)


def normalize(text: str) -> str:
    """*text* as an absolute path, seen from the folder in which code runs. What is in the home begins with ``~``."""
    if text.startswith("file://"):
        text = text[7:]
    if text.startswith(("~", HOLE)):
        head, slash, rest = text.partition("/")
        path = posixpath.normpath(slash + rest) if rest else ""
        return head + path.replace("//", "/")
    path = posixpath.normpath(posixpath.join(WORKSPACE, text))
    return path[1:] if path.startswith("//") else path


def objection(text: str, *, write: bool, listing: bool = False, whole: bool = False) -> str | None:
    """What is wrong with code touching the path *text*, or None.

    :param write: it creates, changes or removes something there.
    :param listing: it lists a folder, or matches a pattern.
    :param whole: it goes down the whole tree.
    """
    if not text or len(text) > 4096 or "\n" in text:
        return None
    path = normalize(text)
    if path == "/" or path.startswith("/*"):
        return "the whole file system" if write or whole else None
    if path in ("~", "~/", "/home") and write and whole:
        return "the home folder"
    if (found := _SECRET.search(path)) is not None:
        return f"{found[0].strip('/')}, which holds secrets or start-up code"
    if _WIN.match(text):
        return f"{text[:40]}, which belongs to the system"
    system = _SYSTEM.match(path)
    if system is None and path.startswith(HOLE):
        system = re.search(r"/(proc/(self|1|sys)|etc/(ssh|cron\.\w+|ssl/private))(?=/|$)", path)
    if system is not None:
        if write:
            return None if _WRITABLE.match(path) else f"{system[0]}, which belongs to the system"
        if system[1] in ("opt",):
            return None
        if system[1] == "dev" and path in ("/dev", "/dev/") and not listing:
            return None
        return None if _READABLE.match(path) else f"{system[0]}, which belongs to the system"
    if write and path.startswith(WORKSPACE + "/") and path.endswith(".py"):
        name = path[len(WORKSPACE) + 1 : -3]
        if name in _STDLIB:
            return f"{name}.py here, which would be imported in place of Python's own module {name}"
    return None
