"""Copy the operator's wheelhouse to an installer, over its stream, because the engine may be on another machine."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import anyio
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

from ..engine import Report
from ..errors import InstallError, SandboxLostError
from ..wire.messages import OpenWheelhouse, Wheel, Wheelhouse
from .multiplexer import RequestMultiplexer
from .pins import FILE_NAME

__all__ = ["WheelhouseCopy"]

logger = logging.getLogger(__name__)

_CHUNK = 2 << 20
_ANSWER_SECONDS = 60.0


class WheelhouseCopy:
    """The copy for one installer. It is made in a task of its own, so that the cancellation of a caller does not stop
    it.
    """

    def __init__(self, multiplexer: RequestMultiplexer, folder: Path) -> None:
        self.multiplexer = multiplexer
        self._folder = folder
        self._stage = "looking at the wheelhouse"
        self._changed = anyio.Event()
        self._is_over = False
        self._problem: Exception | None = None

    async def wait(self, report: Report) -> None:
        """Wait until the copy is complete.

        :param report: called with what is being copied.

        :raises InstallError: the folder can't be read.
        :raises SandboxLostError: the installer is lost.
        """
        while not self._is_over:
            report(self._stage)
            await self._changed.wait()
        if self._problem is not None:
            raise type(self._problem)(*self._problem.args) from self._problem

    async def make(self) -> None:
        """Send the files, unless the installer has them already."""
        self._problem = SandboxLostError("the copy of the wheelhouse was interrupted")
        try:
            await self._send()
        except OSError as error:  # perhaps after some files were sent
            self.multiplexer.link.abandon("the wheelhouse can't be read")
            self._problem = InstallError(f"This server's wheelhouse can't be read ({error.strerror}).")
        except SandboxLostError as error:
            self._problem = error
        else:
            self._problem = None
        finally:
            if isinstance(self._problem, SandboxLostError):
                self.multiplexer.link.abandon(str(self._problem))
            self._is_over = True
            self._changed.set()

    async def _send(self) -> None:
        files = await anyio.to_thread.run_sync(_wheels_in, self._folder)
        listing = "\n".join(f"{path.name} {size} {changed}" for path, size, changed in files)
        digest = hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
        with self.multiplexer.request() as request:
            number = request.number
            await request.send(OpenWheelhouse(request=number, digest=digest))
            if not (await request.expect(Wheelhouse, within=_ANSWER_SECONDS)).wanted:
                return
            for path, _, _ in files:
                self._set_stage(f"copying {path.name} from the wheelhouse")
                chunks = _chunks(path)
                while chunk := await anyio.to_thread.run_sync(next, chunks, b""):
                    data = base64.b64encode(chunk).decode()
                    await request.send(Wheel(request=number, name=path.name, data=data))
            await request.send(Wheel(request=number, name="", data=""))
            await request.expect(Wheelhouse, within=_ANSWER_SECONDS)

    def _set_stage(self, stage: str) -> None:
        self._stage = stage
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


def _wheels_in(folder: Path) -> list[tuple[Path, int, int]]:
    """Return path, size and modification time of each distribution in *folder*."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".whl", ".gz", ".zip") and path.is_file()]
    usable = [path for path in files if _is_distribution(path.name)]
    for path in set(files).difference(usable):
        logger.warning("skipping a file in the wheelhouse whose name is not that of a distribution: %a", path.name)
    return [(path, (state := path.stat()).st_size, state.st_mtime_ns) for path in usable]


def _is_distribution(name: str) -> bool:
    try:
        _ = parse_wheel_filename(name) if name.endswith(".whl") else parse_sdist_filename(name)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return False
    return FILE_NAME.fullmatch(name) is not None


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
