"""What an installer may answer: typed, and checked field by field, since whatever comes from a container is hostile."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..wire.codec import Frame, FrameError, Kind
from .pins import validated

__all__ = ["Answer", "Cached", "Done", "Forgotten", "Pinned", "Progress", "Resolved", "Wanted", "parse_answer"]


def _pins(pins: dict[str, str]) -> dict[str, str]:
    if validated(pins) != pins:
        raise ValueError("a name or version is not in canonical form")
    return pins


def _pairs(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    _pins(dict(pairs))
    return pairs


Pins = Annotated[dict[str, str], AfterValidator(_pins)]
Pinned = Annotated[tuple[tuple[str, str], ...], AfterValidator(_pairs)]
"""Name and version of distributions."""
_MOST_NOTES = 100
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Answer(BaseModel):
    """An answer to the request of that number."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    request: int


class Progress(Answer):
    text: str


class Resolved(Answer):
    pins: Pins


class Done(Answer):
    """The end of an installation: what it came to, or why there is none."""

    sandbox: Id
    folder: Annotated[str, Field(pattern=r"^(sandboxes/[0-9a-f]{32}/[0-9a-f]{16})?$")]
    packages: Pinned
    satisfied: Pinned
    replaced: tuple[str, ...]
    """Names of what the image has in another version."""
    modules: dict[str, tuple[str, ...]]
    notes: Annotated[tuple[str, ...], Field(max_length=_MOST_NOTES)]
    error: str | None

    @model_validator(mode="after")
    def _require_own_folder(self) -> Done:
        if self.folder and self.folder.split("/")[1] != self.sandbox:
            raise ValueError("the folder is another sandbox's")
        return self


class Forgotten(Answer):
    sandbox: Id


class Cached(Answer):
    size: int
    packages: tuple[tuple[str, float], ...]
    busy: int
    """How many parts of the cache could not be cleared, because an installation was using them."""


class Wanted(Answer):
    """Whether the files of a wheelhouse are wanted."""

    wanted: bool


_ANSWERS: dict[Kind, type[Answer]] = {
    Kind.INSTALL_PROGRESS: Progress,
    Kind.RESOLVED: Resolved,
    Kind.INSTALL_DONE: Done,
    Kind.FORGOTTEN: Forgotten,
    Kind.CACHED: Cached,
    Kind.WHEELS: Wanted,
}

AnswerT = TypeVar("AnswerT", bound=Answer)


def parse_answer(frame: Frame) -> Answer:
    """The answer in *frame*.

    :raises FrameError: it is not an answer, or malformed.
    """
    kind, payload = frame
    try:
        return _ANSWERS[kind].model_validate_json(payload)
    except (KeyError, ValidationError, RecursionError):
        raise FrameError(f"a malformed {kind.name} frame") from None
