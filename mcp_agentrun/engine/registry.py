"""The engines by name. Another package can bring one, as an entry point of the group ``mcp_agentrun.engines``."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import cast

from ..settings import Settings
from . import Engine

__all__ = ["ENTRY_POINTS", "EngineFactory", "create_engine", "engine_names"]

ENTRY_POINTS = "mcp_agentrun.engines"

EngineFactory = Callable[[Settings], Engine]
"""Makes the engine that the settings describe. It connects when it is first used."""


def engine_names() -> list[str]:
    """The names that the setting ``engine`` can have."""
    return sorted({"docker", *entry_points(group=ENTRY_POINTS).names})


def create_engine(settings: Settings) -> Engine:
    """The engine that the setting ``engine`` names.

    :raises SettingsError: there is none of that name, or the package that brings it can't be imported.
    """
    if settings.engine.name == "docker":  # without a search of all installed packages, which a start would wait for
        from .docker.engine import DockerEngine

        return DockerEngine.from_settings(settings)
    found = list(entry_points(group=ENTRY_POINTS, name=settings.engine.name))
    if not found:
        raise settings.error("engine", f"{settings.engine.name!r} is not one of {', '.join(engine_names())}")
    try:
        factory = cast("EngineFactory", found[0].load())
    except Exception as error:  # of another package: anything
        raise settings.error("engine", f"{found[0].value} can't be loaded: {error}") from error
    return factory(settings)
