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
    # What says how large the machine is, and what it is called.
    r"|/etc/(os-release|lsb-release|debian_version|issue|timezone|hostname|localtime|hosts|resolv\.conf"
    r"|mime\.types|nsswitch\.conf)$"
    r"|/proc/(meminfo|loadavg|uptime|version)$"
    r"|/usr/lib/os-release$|/sys/fs/cgroup/([\w.]+/)?(memory|cpu|pids)\.[\w.]+$|/sys/devices/system/cpu/(online|present|possible)$"
)
_WRITABLE = re.compile(r"/(var/tmp|dev/(null|zero|full|tty|stdin|stdout|stderr|shm)|proc/self/fd/[012])(?=/|$)")
_SECRET = re.compile(
    r"(^|/|~)(\.(ssh|aws|azure|gnupg|kube|docker|netrc|pgpass|my\.cnf|git-credentials|pypirc|npmrc|ipython|bashrc"
    r"|bash_profile|bash_login|bash_logout|profile|zshrc|zshenv|zprofile|bash_history|zsh_history|python_history"
    r"|psql_history|mysql_history|config/(gcloud|gh|autostart|systemd|fish|google-chrome\S*|chromium|BraveSoftware|microsoft-edge|opera|vivaldi|rclone"
    r"|git/credentials|hub|doctl|op|sops|filezilla|Slack|discord|Signal|pip|python)|local/share/(keyrings|gnome-keyring|kwalletd)"
    r"|mozilla|thunderbird|vault-token|boto|s3cfg|password-store|electrum|bitcoin|ethereum|rhosts|shosts|forward|xinitrc|xsession"
    r"|xprofile|pam_environment|pythonrc|pystartup|pythonstartup|git/hooks|gem/credentials|cargo/credentials(\.toml)?|terraform\.d"
    r"|m2/settings\.xml|kaggle|huggingface/token|cache/huggingface/token|databrickscfg|oci|fly|heroku|snowflake|kodi|purple"
    r"|subversion/auth|rclone\.conf|msmtprc|fetchmailrc|mailrc|esmtprc|erlang\.cookie|Xauthority|ICEauthority|gitconfig|claude)"
    r"|(Library|AppData)/\S*(Keychains|Chrome|Firefox|Cookies|Credentials)|Login Data|Cookies"
    r"|logins\.json|key[34]\.db|cookies\.sqlite"
    r"|wallet\.dat|kubeconfig|kubelet\.conf|credentials\.db|application_default_credentials\.json"
    r"|id_(rsa|dsa|ecdsa|ed25519)|authorized_keys|docker\.sock|containerd\.sock|sitecustomize\.py|usercustomize\.py"
    r"|serviceaccount/token|etc/(passwd|shadow|gshadow|sudoers|group|master\.passwd))(\.pub)?(?=/|$|\*)"
)
_DOTENV = re.compile(r"(?!/workspace/|/tmp/)[/~](.*/)?\.env(\.\w+)?$")
_PACKAGES = re.compile(r"(^|/)(site|dist)-packages(/|$)")
_HOME_FILES = re.compile(
    r"(~\w*|/home)(/.*)?/\*|(~\w*|/home/[^/]+)(/(Documents|Desktop|Downloads|Pictures|Music|Videos))?/?$"
)
"""The home folder or a whole folder in it, or what was found by going through them."""

_OWN = re.compile(rf"/tmp/{HOLE}/")  # noqa: S108
"""A temporary folder that the code has made."""

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
    if write and (_PACKAGES.search(path) is not None):
        return "the folder of installed packages"
    if write and ("*" in path or whole) and _HOME_FILES.match(path):
        return "the files in the home folder"
    if _DOTENV.match(path) is not None:
        return ".env, which holds secrets"
    if (found := _SECRET.search(path)) is not None and not _OWN.match(path):
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
