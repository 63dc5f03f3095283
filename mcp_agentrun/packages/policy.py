"""The package policy: what may be requested and fetched. Pure: it knows no container."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from ..errors import InvalidRequestError, SettingsError
from .known import ALTERNATIVES, WELL_KNOWN
from .names import STDLIB_MODULES, distribution_of, similar_known_name

__all__ = ["Constraints", "PackageRule", "Policy", "combine", "is_satisfied", "parse_requirements"]

_MOST = 50
_LONGEST = 300
_HOW = "Give names as on the package index, such as 'requests' or 'scipy>=1.14'."
_RULE = re.compile(r"([A-Za-z0-9*?][A-Za-z0-9._*?-]*)\s*(.*)", re.DOTALL)
_MEANT = ">=0"
"""Behind a name that resembles a well-known one, says that this name is meant. Nobody writes it for anything else."""
_HASH = re.compile(r"--hash[= ]\s*(sha(?:256|384|512):[0-9a-f]+)")


@dataclass(frozen=True)
class PackageRule:
    """A distribution's name, in which ``*`` and ``?`` stand for any characters, and the versions that are meant."""

    pattern: str
    versions: SpecifierSet

    @classmethod
    def parse(cls, text: str) -> PackageRule:
        """:raises SettingsError: *text* is not a name with an optional range of versions."""
        match = _RULE.fullmatch(text.strip())
        try:
            if match is None:
                raise InvalidSpecifier
            return cls(re.sub(r"[-_.]+", "-", match[1]).lower(), SpecifierSet(match[2]))
        except InvalidSpecifier:
            raise SettingsError(
                f"{text!r} is not a package rule: give a name, which may contain *, and versions, as in 'django<5'"
            ) from None

    def matches_name(self, name: str) -> bool:
        return fnmatchcase(canonicalize_name(name), self.pattern)

    def matches(self, name: str, version: str) -> bool:
        if not self.matches_name(name):
            return False
        try:
            return self.versions.contains(Version(version), prereleases=True)
        except InvalidVersion:
            return not self.versions  # a file from a URL has no version to judge

    def __str__(self) -> str:
        return f"{self.pattern}{self.versions}"


@dataclass(frozen=True)
class Constraints:
    """An operator's constraints file: versions, and hashes of the files that may be used."""

    lines: tuple[str, ...] = ()
    hashes: Mapping[str, Mapping[Version, tuple[str, ...]]] = field(
        default_factory=dict[str, Mapping[Version, tuple[str, ...]]]
    )
    """By name and version."""

    @classmethod
    def parse(cls, text: str) -> Constraints:
        """:raises SettingsError: a line is not a requirement, has an option other than ``--hash``, or has hashes and no
        single version whose they are.
        """
        lines: list[str] = []
        hashes: dict[str, dict[Version, tuple[str, ...]]] = {}
        for line in text.replace("\\\n", " ").splitlines():
            found = tuple(_HASH.findall(line))
            line = re.sub(r"(^|\s)#.*", "", _HASH.sub("", line)).strip()
            if not line:
                continue
            try:
                requirement = Requirement(line)
            except InvalidRequirement:
                raise SettingsError(f"the file has a line that is not a requirement: {line[:80]!r}") from None
            lines.append(str(requirement))
            if found:
                try:
                    (version,) = (Version(each.version) for each in requirement.specifier if each.operator == "==")
                except ValueError:  # no such version, several, or one with *
                    raise SettingsError(
                        f"the file has hashes for {str(requirement)!r}, which is not one version"
                    ) from None
                of_name = hashes.setdefault(canonicalize_name(requirement.name), {})
                of_name[version] = of_name.get(version, ()) + found
        return cls(tuple(lines), hashes)

    def hashes_of(self, name: str, version: str) -> tuple[str, ...]:
        """The hashes that files of that *version* may have; empty where the operator has named none."""
        try:
            return self.hashes.get(canonicalize_name(name), {}).get(Version(version), ())
        except InvalidVersion:  # a file from a URL
            return ()


@dataclass(frozen=True, kw_only=True)
class Policy:
    """An operator's rules. A denial goes before any permission."""

    allow: tuple[PackageRule, ...] = (PackageRule("*", SpecifierSet()),)
    """What may be asked for by name; what it depends on comes with it."""
    deny: tuple[PackageRule, ...] = ()
    """What is never installed, not even as a dependency of something else."""
    max_packages: int = 200
    """Distributions that one sandbox may have installed."""
    urls: bool = False
    constraints: Constraints = Constraints()
    require_hashes: bool = False

    @property
    def is_open(self) -> bool:
        """Whether nothing but the number of packages can speak against what a resolver finds."""
        is_all = any(rule.pattern == "*" and not rule.versions for rule in self.allow)
        return is_all and not (self.deny or self.constraints.hashes or self.require_hashes)

    def check_requested(self, requirements: Iterable[str]) -> None:
        """:raises InvalidRequestError: one of *requirements* may not be asked for; the text says why."""
        for text in requirements:
            requirement = Requirement(text)
            name = canonicalize_name(requirement.name)
            if not any(rule.matches_name(name) for rule in self.allow):
                raise _refused(f"{name!r} is not on this server's list of allowed packages.")
            for rule in self.deny:
                if rule.matches_name(name) and not rule.versions:
                    raise _refused(f"{name!r} is denied by this server's rule {str(rule)!r}.")
            is_meant = _MEANT in map(str, requirement.specifier) or any(rule.pattern == name for rule in self.allow)
            known = None if is_meant else similar_known_name(name)
            if known is not None:
                raise _refused(
                    f"{name!r} is not a well-known package, but resembles {known!r}. Did you mean {known!r}? If you "
                    f"are sure that {name!r} is another package and the one you want, install {name + _MEANT!r}."
                )

    def check_resolved(self, asked: Iterable[str], pins: Mapping[str, str]) -> str | None:
        """Why *pins*, all that is to be installed for *asked*, may not be; None if they may."""
        if len(pins) > self.max_packages:
            return f"{len(pins)} packages would be installed, but this server allows {self.max_packages} in a sandbox."
        wanted = {canonicalize_name(Requirement(text).name) for text in asked}
        for name, version in pins.items():
            if version.startswith("@") and not self.urls:
                return f"{name} comes from a URL; packages are installed by name from the package index only."
            for rule in self.deny:
                if rule.matches(name, version):
                    why = "" if name in wanted else ", which what you asked for depends on,"
                    return f"{name} {version}{why} is denied by this server's rule {str(rule)!r}."
            if name in wanted and not any(rule.matches(name, version) for rule in self.allow):
                rules = ", ".join(str(rule) for rule in self.allow if rule.matches_name(name))
                return f"{name} {version} is not allowed on this server; allowed: {rules}."
            needs_hash = self.require_hashes or canonicalize_name(name) in self.constraints.hashes
            if needs_hash and not self.constraints.hashes_of(name, version):
                return f"this server's constraints file has no hash for {name} {version}, and one is required."
        return None

    def resolver_constraints(self) -> tuple[str, ...]:
        """Constraints for the resolver, so that it finds what is allowed rather than what is newest."""
        ranges = [str(rule) for rule in self.allow if rule.versions and not set("*?") & set(rule.pattern)]
        names = [re.split(r"[<>=!~]", each)[0] for each in ranges]
        return (*self.constraints.lines, *(each for each, n in zip(ranges, names, strict=True) if names.count(n) == 1))

    def auto_installable(self, modules: Iterable[str], mode: str) -> tuple[str, ...]:
        """The distributions to install because code imports *modules*: well-known ones and those that the operator
        has named; with *mode* ``all``, whatever may be asked for.
        """
        chosen: dict[str, None] = {}
        for module in modules:
            name = distribution_of(module)
            if module in STDLIB_MODULES:
                continue
            named = any(rule.matches_name(name) for rule in self.allow if not set(rule.pattern) <= set("*?"))
            if mode == "off" or not (name in WELL_KNOWN or named or mode == "all"):
                continue
            try:
                parse_requirements(name)  # a module may have a name that no distribution can have
                self.check_requested([name])
            except InvalidRequestError:
                continue
            chosen[name] = None
        return tuple(chosen)

    def advice(self, module: str, kind: str = "module") -> str:
        """What to do about the missing *module*, or another *kind* of name, in a line for the model."""
        name = distribution_of(module)
        if module in STDLIB_MODULES:
            return (
                f"The module {module!r} is of Python's standard library, of another version or on another system; this "
                "Python does not have it."
            )
        if not _is_requirement(name):
            return f"The {kind} {module!r} is not installed, and no package can have that name."
        try:
            parse_requirements(name)
            self.check_requested([name])
        except InvalidRequestError as error:
            return f"The {kind} {module!r} is not installed. {error}"
        if name in ALTERNATIVES:
            return (
                f"The {kind} {module!r} is not installed; it is of {name!r}, of which the public index has no wheel. "
                f"Instead, use {ALTERNATIVES[name]}."
            )
        if name.partition("[")[0] in WELL_KNOWN:
            return f"The {kind} {module!r} is not installed. Install it with install_package({name!r})."
        return (
            f"The {kind} {module!r} is not installed, and no well-known package has that name. If the package index "
            f"has it as {name!r}, install it with install_package({name!r})."
        )


def parse_requirements(packages: str | Sequence[str], *, urls: bool = False) -> tuple[str, ...]:
    """The PEP 508 requirements in *packages*, normalised.

    One string may hold several, separated by commas, white space or newlines, as models like to write them.

    :param urls: whether a requirement may name the web address of its file.
    :raises TypeError: one of them is not a string.
    :raises InvalidRequestError: one of them is a URL, a path, an option, or no requirement at all.
    """
    given = [packages] if isinstance(packages, str) else list(packages)
    for item in given:
        if not isinstance(item, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a requirement must be a string, such as 'scipy>=1.14', not {type(item).__name__}")
    texts = [text for item in given for text in _split(item)]
    if not texts:
        raise _refused(f"No package is named. {_HOW}")
    if len(texts) > _MOST:
        raise _refused(f"{len(texts)} packages at once are too many; install at most {_MOST} in a call.")
    return tuple(dict.fromkeys(_parse(text, urls) for text in texts))


def _refused(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, argument="requirements")


def combine(earlier: Iterable[str], new: Iterable[str]) -> tuple[str, ...]:
    """What a sandbox wants in all. A new requirement takes the place of an earlier one for the same distribution and
    with the same marker, unless it asks for nothing that the earlier one does not.
    """
    wanted: dict[tuple[str, str], str] = {}
    for text in (*earlier, *new):
        requirement = Requirement(text)
        key = canonicalize_name(requirement.name), str(requirement.marker or "")
        is_bare = not (requirement.specifier or requirement.extras or requirement.url)
        if key not in wanted or not is_bare:
            wanted[key] = text
    return tuple(wanted.values())


def is_satisfied(requirement: str, have: Mapping[str, str]) -> bool:
    """Whether the distributions *have*, version by name, certainly include all that *requirement* means."""
    parsed = Requirement(requirement)
    version = have.get(canonicalize_name(parsed.name))
    if version is None or parsed.extras or parsed.marker is not None or parsed.url is not None:
        return False
    try:
        return parsed.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


_NO_NAMES = frozenset(
    """
    a add all and conda for from in install latest me need of package packages pip pip3 please poetry
    python the this to use uv version with you
    """.split()  # noqa: SIM905
)
"""Words of a command line or a sentence. Some are packages as well, which have to be named one by one."""


_APART = re.compile(r"([A-Za-z][\w.-]*)\s+v?(\d[\w.]*)")
_VERSION = re.compile(r"v?\d+(\.\w+)+")


def _split(text: str) -> list[str]:
    text = text.strip()[: _MOST * _LONGEST]
    if not text or _is_requirement(text):
        return [text] if text else []
    parts = [part.strip() for part in text.splitlines() if part.strip()]
    if len(parts) > 1:
        return [piece for part in parts for piece in _split(part)]
    parts = [part for part in re.split(r"[\s,]+", text) if part]
    if any(_VERSION.fullmatch(part) for part in parts):
        return [text]
    is_list = all(_is_requirement(part) for part in parts) and _NO_NAMES.isdisjoint(part.lower() for part in parts)
    return parts if is_list else [text]


def _is_requirement(text: str) -> bool:
    try:
        Requirement(text)
    except (InvalidRequirement, RecursionError):
        return False
    return True


def _parse(text: str, urls: bool) -> str:
    shown = ascii(text[:80])
    if len(text) > _LONGEST or not text.isprintable():
        raise _refused(f"{shown} is not a package requirement. {_HOW}")
    if text.startswith("-"):
        raise _refused(f"{shown} is an option; only package names with versions are accepted. {_HOW}")
    if re.match(r"(git|hg|svn|bzr)\+|\w+://", text) and not urls:
        raise _refused(f"{shown} is a URL; packages are installed by name from the package index only.")
    if text.startswith((".", "/", "~")) or "\\" in text:
        raise _refused(f"{shown} is a path; packages are installed by name from the package index only.")
    try:
        requirement = Requirement(text)
    except (InvalidRequirement, RecursionError):
        apart = _APART.fullmatch(text)
        meant = f"Did you mean '{apart[1]}=={apart[2]}'?" if apart else _HOW
        raise _refused(f"{shown} is not a package requirement. {meant}") from None
    if requirement.url is not None and not urls:
        raise _refused(f"{shown} names a URL; packages are installed by name from the package index only.")
    if requirement.url is not None and not requirement.url.startswith(("https://", "http://")):
        raise _refused(f"{shown} is not an https URL of a file.")
    return str(requirement)
