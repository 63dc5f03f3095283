"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def _no_engine() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Make every container engine unreachable. A test that needs one belongs in tests/engine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
        yield
