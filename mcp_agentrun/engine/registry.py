"""Engines by name. Other packages can provide one through the entry point group ``mcp_agentrun.engines``."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import cast

from ..errors import extra_advice
from ..settings import Settings
from . import Engine

__all__ = ["ENTRY_POINTS", "EngineFactory", "create_engine", "engine_names"]

ENTRY_POINTS = "mcp_agentrun.engines"

EngineFactory = Callable[[Settings], Engine]
"""Creates the engine that the settings describe. It connects when it is first used."""


def engine_names() -> list[str]:
    """Return the valid values of the setting ``engine``."""
    return sorted({"docker", "kubernetes", *entry_points(group=ENTRY_POINTS).names})


def create_engine(settings: Settings) -> Engine:
    """Create the engine that the setting ``engine`` names.

    :raises SettingsError: there is none of that name, or the package that brings it can't be imported.
    """
    if settings.engine.name == "docker":  # without searching all installed packages, which takes time at startup
        from .docker.engine import DockerEngine

        return DockerEngine.from_settings(settings)
    if settings.engine.name == "kubernetes":
        try:
            from .kubernetes.engine import KubernetesEngine
        except ImportError as error:
            raise settings.error("engine", f"{error.name} is missing. {extra_advice('kubernetes')}") from error
        return KubernetesEngine(settings)
    found = list(entry_points(group=ENTRY_POINTS, name=settings.engine.name))
    if not found:
        raise settings.error("engine", f"{settings.engine.name!r} is not one of {', '.join(engine_names())}")
    try:
        factory = cast("EngineFactory", found[0].load())
    except Exception as error:  # of another package: anything
        raise settings.error("engine", f"{found[0].value} can't be loaded: {error}") from error
    return factory(settings)
