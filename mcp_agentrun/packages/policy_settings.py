"""The package policy that the operator's settings describe."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import InvalidRequestError, SettingsError
from ..settings import Settings
from .policy import Constraints, PackageRule, Policy, parse_requirements

__all__ = ["policy_from_settings"]


def policy_from_settings(settings: Settings) -> Policy:
    """Return the policy that *settings* describe.

    :raises SettingsError: a rule or requirement is invalid, or the constraints file or the wheelhouse can't be read.
    """
    constraints = Constraints()
    if settings.packages.constraints is not None:
        try:
            constraints = Constraints.parse(settings.packages.constraints.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise settings.error("packages_constraints", f"the file can't be read: {error}") from None
        except SettingsError as error:
            raise settings.error("packages_constraints", error) from None
    try:
        if settings.packages.preinstall:
            parse_requirements(settings.packages.preinstall, urls=settings.packages.urls)
    except InvalidRequestError as error:
        raise settings.error("preinstall", error) from None
    if settings.packages.wheelhouse is not None and not settings.packages.wheelhouse.is_dir():
        raise settings.error("wheelhouse", f"there is no folder {settings.packages.wheelhouse}")
    return Policy(
        allow=_rules(settings, "packages_allow", settings.packages.allow),
        deny=_rules(settings, "packages_deny", settings.packages.deny),
        max_packages=settings.packages.most,
        urls=settings.packages.urls,
        constraints=constraints,
        require_hashes=settings.packages.require_hashes,
    )


def _rules(settings: Settings, name: str, texts: Iterable[str]) -> tuple[PackageRule, ...]:
    try:
        return tuple(map(PackageRule.parse, texts))
    except SettingsError as error:
        raise settings.error(name, error) from None
