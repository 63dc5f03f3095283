"""See `IPython`."""

from __future__ import annotations

from typing import Any

__all__ = ["clear_output", "display", "publish_display_data", "update_display"]


def display(*objs: Any, **_options: Any) -> None:
    """Show *objs*."""
    print(*objs)


def publish_display_data(data: dict[str, Any], *_arguments: Any, **_options: Any) -> None:
    """Show one of the forms in *data*, by MIME type."""
    print(data.get("text/plain", ""))


def update_display(obj: Any, **_options: Any) -> None:
    """Show *obj* again."""
    display(obj)


def clear_output(*_arguments: Any, **_options: Any) -> None:
    """Forget what was shown."""
