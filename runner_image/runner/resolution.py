"""Resolving a sandbox's packages with uv, and explaining why a version is not the newest."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcp_agentrun.packages.pins import PinError, Pins, parse_pins, requirement_line
from runner.accounts import Workplace

__all__ = ["NO_WHEEL", "UNSOLVED", "InstallError", "NoWheelError", "RefusedError", "Resolution", "Resolver"]

NO_WHEEL = re.compile(
    r"no usable wheels|no wheels|[Bb]uilding source distributions? .{0,40}is disabled|does not satisfy Python"
)
_NOT_CACHED = re.compile(r"not found in the cache|network|offline", re.IGNORECASE)
UNSOLVED = "No solution found when resolving dependencies"
_PREFACE = re.compile(rf"{UNSOLVED}: |, we can conclude that your requirements are.*")
_PYTHON = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
_PINS_KEPT = 1 << 20
_REASON_KEPT = 500
_MOST_EXPLAINED = 5  # requirements that are examined further, each of which takes uv a tenth of a second


class InstallError(Exception):
    """The packages cannot be installed. The message says why."""


class RefusedError(InstallError):
    """uv refused."""


class NoWheelError(RefusedError):
    """A package has no wheel."""


class Caller(Protocol):
    """Runs programs under an account."""

    workplace: Workplace

    def uv(self, *arguments: str) -> str: ...

    def program(self, *command: str) -> None: ...


@dataclass(frozen=True)
class Resolution:
    """The result of the resolver."""

    pins: Pins
    notes: tuple[str, ...] = ()  # why packages are not in their newest version


class Resolver:
    """Resolves *requirements* on top of the image.

    :param before: packages of the sandbox. Their versions, and then those of the image, are kept if possible.
    :param image: packages of the image.
    :param needs: the requirements of each of these.
    """

    def __init__(
        self,
        call: Caller,
        python: str,
        requirements: Sequence[str],
        constraints: Sequence[str],
        *,
        before: Pins,
        image: Pins,
        needs: Mapping[str, Sequence[Requirement]],
    ) -> None:
        self._call = call
        self._requirements = requirements
        self._preferred = {**image, **before}
        self._needs = needs
        constraining = call.workplace.give("constraints.txt", constraints)
        self.options = ("--python", python, "--constraint", constraining)  # of each call of uv
        self._calls = 0

    def resolve(self) -> Resolution:
        """:raises InstallError: there is no solution; the message says which versions there are."""
        try:
            pins = self._consistent()
        except RefusedError as error:
            raise type(error)(" ".join([*self._available(str(error)), str(error)])) from None
        return self.explained(pins)

    def explained(self, pins: Pins) -> Resolution:
        """The resolution to *pins*, with notes about them."""
        return Resolution(pins, tuple(self._held_back(pins)))

    def broken(self, pins: Pins) -> set[str]:
        """Names of the image's distributions that are not compatible with *pins*."""
        return {name for name, needs in self._needs.items() if name not in pins and not _are_met(needs, pins)}

    def _consistent(self) -> Pins:
        """Resolve the requirements, and the distributions of the image that are not compatible with the result."""
        anew: set[str] = set()
        while True:
            pins = self._pins([*self._requirements, *sorted(anew)], preferred=self._preferred)
            broken = self.broken(pins)
            if not broken:
                return pins
            anew |= broken

    def _available(self, text: str) -> Generator[str]:
        """Explain which versions there are of each requirement that can't be satisfied even alone.

        :param text: why the requirements can't be satisfied together.
        """
        for requirement in self._asked() if UNSOLVED in text else ():
            if not requirement.specifier or not re.search(rf"(?<![\w.-]){re.escape(requirement.name)}\b", text):
                continue
            try:
                self._alone(str(requirement))
            except RefusedError:
                try:
                    newest = self._alone(requirement.name)
                    oldest = self._alone(requirement.name, "--resolution", "lowest")
                except RefusedError:
                    continue
                name = requirement.name
                yield f"No wheel of {name} for {_PYTHON} fits {requirement}; there are {oldest} to {newest}."

    def _held_back(self, pins: Pins) -> Generator[str]:
        """Explain requirements that did not resolve to the newest matching version."""
        for requirement in self._asked():
            name = canonicalize_name(requirement.name)
            chosen = pins.get(name, "@")
            is_exact = any(each.operator in ("==", "===") for each in requirement.specifier)
            if chosen.startswith("@") or chosen == self._preferred.get(name) or is_exact:
                continue
            fitting = f"{name}{requirement.specifier}{',' if requirement.specifier else ''}"
            try:
                newest = self._alone(f"{fitting}>{chosen}", "--prerelease", "disallow")
            except RefusedError as error:
                if NO_WHEEL.search(str(error)):
                    yield f"{name} {chosen} is not the newest, but: {_reason(error)}."
                continue
            fits = f" that fits {requirement}" if requirement.specifier else ""
            note = f"{name} {chosen} is not the newest{fits}, which is {newest}."
            try:
                self._probe([*self._requirements, f"{name}=={newest}"])
            except RefusedError as error:
                itself = rf"(\. And because|,? and) you require {re.escape(name)}=={re.escape(newest)}$"
                note += f" It is held back: {re.sub(itself, '', _reason(error))}."
            yield note

    def _asked(self) -> list[Requirement]:
        parsed = [Requirement(text) for text in self._requirements]
        return [each for each in parsed if each.url is None and each.marker is None][-_MOST_EXPLAINED:]

    def _alone(self, requirement: str, *options: str) -> str:
        """The version that *requirement* alone resolves to."""
        (version,) = self._probe([requirement], "--no-deps", *options).values()
        return version

    def _probe(self, requirements: Sequence[str], *options: str) -> Pins:
        """Resolve *requirements*, from uv's cache if possible."""
        try:
            return self._pins(requirements, "--offline", *options)
        except RefusedError as error:
            if not _NOT_CACHED.search(str(error)):
                raise
            return self._pins(requirements, *options)

    def _pins(self, requirements: Sequence[str], *options: str, preferred: Pins | None = None) -> Pins:
        self._calls += 1
        workplace = self._call.workplace
        output = workplace.made / f"pins{self._calls}.txt"
        # uv prefers the versions in its output file. PID 1 can't write it to the account's folder, but the account can.
        kept = [requirement_line(*pin) for pin in (preferred or {}).items() if not pin[1].startswith("@")]
        if kept:
            self._call.program("/bin/cp", workplace.give("preferred.txt", kept), str(output))
        given = workplace.give("requirements.in", requirements)
        options = (*self.options, *options, "--no-header", "--no-annotate", "--output-file", str(output))
        self._call.uv("pip", "compile", "--quiet", *options, given)
        return parse_pins(_read_plain(output, _PINS_KEPT))


def _are_met(needs: Sequence[Requirement], pins: Pins) -> bool:
    """Whether no version in *pins* is excluded by *needs*."""
    given = [(need, pins.get(canonicalize_name(need.name), "@")) for need in needs]
    return all(version.startswith("@") or need.specifier.contains(version, prereleases=True) for need, version in given)


def _reason(error: RefusedError) -> str:
    return _PREFACE.sub("", str(error)).rstrip(".")[:_REASON_KEPT]


def _read_plain(path: Path, limit: int) -> str:
    """Read a regular file that an account has written.

    :raises PinError: it is larger than *limit* bytes or not UTF-8.
    :raises OSError: it is a link or missing.
    """
    reading = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(reading, "rb") as file:
        content = file.read(limit + 1)
    try:
        if len(content) <= limit:
            return content.decode()
    except UnicodeDecodeError:
        pass
    raise PinError("not a list of packages")
