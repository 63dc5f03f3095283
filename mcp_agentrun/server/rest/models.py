"""What the API of our own receives and answers."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sized
from datetime import datetime
from typing import Annotated
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ...sandbox import (
    FileChange,
    FileInfo,
    FilePage,
    Image,
    Installed,
    Outcome,
    Result,
    State,
    content_notes,
    history_notes,
    install_notes,
    mime_type,
    run_notes,
)
from ...sessions import SandboxInfo
from ...settings import SandboxLimits
from ...spoofing import encodable, sanitize

__all__ = [
    "CreateRequest",
    "FileAnswer",
    "FileList",
    "ImageAnswer",
    "InstallAnswer",
    "InstallRequest",
    "OutputEvent",
    "ResetRequest",
    "RunAnswer",
    "RunRequest",
    "RunSummary",
    "SandboxAnswer",
    "SandboxList",
]

Text = Annotated[str, AfterValidator(encodable)]
"""Text from a sandbox."""


_MOST_FIELDS = 20


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _limit_errors(cls, given: object) -> object:
        """Refuse at once what would be reported field by field, which takes seconds where there are many."""
        if isinstance(given, Sized) and not isinstance(given, str) and len(given) > _MOST_FIELDS:
            raise ValueError("too many fields")
        return given


class CreateRequest(_Request):
    """What a new sandbox should have."""

    packages: list[str] = Field(default=[], max_length=100, description="Packages to install, as for pip.")
    lifetime: float | None = Field(
        default=None, gt=0, description="Seconds after which it is closed. By default the longest that is allowed."
    )
    limits: SandboxLimits | None = Field(
        default=None,
        description="Limits, each at most this server's. No such sandbox is kept ready, so it has to start first.",
    )


class ResetRequest(_Request):
    """What a reset keeps."""

    keep_packages: bool = Field(default=False, description="Keep installed packages.")
    keep_files: bool = Field(default=False, description="Keep the files of the workspace.")


class RunRequest(_Request):
    """Code to run."""

    code: str = Field(description="Python code. It sees the variables of earlier runs.")
    timeout: float | None = Field(default=None, gt=0, description="Seconds that it may run.")


class InstallRequest(_Request):
    """Packages to install."""

    packages: list[str] = Field(min_length=1, max_length=100, description="As for pip, such as `pandas>=2`.")


class SandboxAnswer(BaseModel):
    """A sandbox."""

    id: str
    created: datetime
    last_used: datetime
    expires: datetime = Field(description="When it is closed, unless it is used until then.")
    limits: SandboxLimits
    in_use: bool = Field(description="Whether a call is in progress.")
    stage: str = Field(description="`ready`, or what is being done to start it.")

    @classmethod
    def of(cls, info: SandboxInfo) -> SandboxAnswer:
        """Return the answer about *info*."""
        return cls(
            id=info.handle,
            created=info.created,
            last_used=info.last_used,
            expires=info.expires,
            limits=info.limits,
            in_use=info.is_in_use,
            stage=sanitize(info.stage),
        )


class SandboxList(BaseModel):
    """Your sandboxes."""

    sandboxes: list[SandboxAnswer]


class ErrorAnswer(BaseModel):
    """The exception that ended a run."""

    type: Text
    message: Text
    line: int | None


class ImageAnswer(BaseModel):
    """A picture that a run has shown."""

    data: str = Field(description="A PNG file in base64.", json_schema_extra={"contentEncoding": "base64"})
    width: int = Field(description="In pixels.")
    height: int = Field(description="In pixels.")

    @classmethod
    def of(cls, image: Image) -> ImageAnswer:
        """Return the answer about *image*."""
        return cls(data=base64.b64encode(image.data).decode(), width=image.width, height=image.height)


class FileAnswer(BaseModel):
    """A file of the workspace."""

    path: Text = Field(description="Relative to the workspace.")
    url_path: str = Field(description="The path as it is written in a URL. It is exact where the name is not UTF-8.")
    size: int = Field(description="In bytes.")
    media_type: str = Field(description="As its name suggests.")
    modified: datetime | None = None
    change: str | None = Field(default=None, description="`created` or `changed`, of a file that a run has written.")

    @classmethod
    def of(cls, file: FileInfo | FileChange) -> FileAnswer:
        """Return the answer about *file*."""
        return cls(
            path=file.path,
            url_path=quote(file.path.encode("utf-8", "surrogateescape")),
            size=file.size,
            media_type=mime_type(file.path),
            modified=file.modified if isinstance(file, FileInfo) else None,
            change=file.change if isinstance(file, FileChange) else None,
        )


class FileList(BaseModel):
    """A part of the list of files, sorted by path."""

    files: list[FileAnswer]
    more: int = Field(description="Number of files after these. Pass the last path as `after` to list them.")
    is_cut: bool = Field(description="Whether there are too many files to list all of them.")

    @classmethod
    def of(cls, page: FilePage) -> FileList:
        """Return the answer about *page*."""
        return cls(files=[FileAnswer.of(file) for file in page.files], more=page.more, is_cut=page.is_cut)


class PackageAnswer(BaseModel):
    """A package."""

    name: Text
    version: Text


class InstallAnswer(BaseModel):
    """What an installation has changed."""

    installed: list[PackageAnswer]
    satisfied: list[PackageAnswer] = Field(description="Packages that were there already.")
    removed: list[PackageAnswer] = Field(description="Packages that nothing requires any more.")
    needs_reset: list[Text] = Field(
        description="Packages that take effect only after a reset that keeps packages, because another version is used."
    )
    notes: list[Text] = Field(description="The same in words.")

    @classmethod
    def of(cls, installed: Installed) -> InstallAnswer:
        """Return the answer about *installed*."""
        return cls(
            installed=_packages(installed.packages),
            satisfied=_packages(installed.satisfied),
            removed=_packages(installed.removed),
            needs_reset=list(installed.needs_reset),
            notes=[sanitize(note) for note in install_notes(installed)],
        )


def _packages(items: Iterable[tuple[str, str]]) -> list[PackageAnswer]:
    return [PackageAnswer(name=name, version=version) for name, version in items]


class FindingAnswer(BaseModel):
    """An objection of the static check."""

    rule: Text
    line: int = Field(description="From 1; 0 for the code as a whole.")
    column: int
    reason: Text
    remedy: Text


class OutputEvent(BaseModel):
    """What code has written."""

    text: Text


class RunSummary(BaseModel):
    """How a run ended."""

    outcome: Outcome
    value: Text | None = Field(description="The value of the last expression. The output has it too.")
    error: ErrorAnswer | None
    exit_code: int | None = Field(description="What `python` would have exited with; null if nothing was run.")
    duration: float = Field(description="Seconds from the start of the code to its end.")
    timeout: float = Field(description="Seconds that the code was allowed to run.")
    state: State = Field(description="What the end of the run did to the variables.")
    number: int = Field(description="Number of the run, from 1. Tracebacks name its code `<run-N>`.")
    output_size: int = Field(description="Bytes of output in all.")
    late_output: Text = Field(description="Output of background threads since the run before.")
    installed: InstallAnswer | None = Field(description="Packages that were installed because the code imports them.")
    findings: list[FindingAnswer] = Field(
        description="Why nothing was run if the outcome is `blocked`, otherwise warnings."
    )
    notes: list[Text] = Field(description="What a person or model should know, in words.")

    @classmethod
    def of(cls, result: Result) -> RunSummary:
        """Return the summary of *result*."""
        return cls.model_validate(_summary(result))


class RunAnswer(RunSummary):
    """How a run ended, and what it has left."""

    output: Text = Field(description="What a terminal would have shown.")
    images: list[ImageAnswer]
    files: list[FileAnswer] = Field(description="Files that were created or changed.")
    more_files: int = Field(description="How many more files were created or changed.")

    @classmethod
    def of(cls, result: Result) -> RunAnswer:
        """Return the answer about *result*."""
        return cls.model_validate(
            {
                **_summary(result),
                "output": result.text,
                "images": [ImageAnswer.of(image) for image in result.images],
                "files": [FileAnswer.of(file) for file in result.files],
                "more_files": result.more_files,
            }
        )


def _summary(result: Result) -> dict[str, object]:
    error = result.error
    notes = [
        *history_notes(result, expired=False),
        *run_notes(result),
        *content_notes(result, len(result.images)),
    ]
    return {
        "outcome": result.outcome,
        "value": result.value,
        "error": error and ErrorAnswer(type=error.type, message=error.message, line=error.line),
        "exit_code": result.exit_code,
        "duration": result.duration,
        "timeout": result.timeout,
        "state": result.state,
        "number": result.number,
        "output_size": result.output.written,
        "late_output": result.late.text(),
        "installed": result.installed and InstallAnswer.of(result.installed),
        "findings": [FindingAnswer(**finding._asdict()) for finding in result.findings],
        "notes": [sanitize(note, lines=True) for note in notes],
    }
