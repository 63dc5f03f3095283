"""The image of runners and installers, pulled or built on the user's engine when it is first needed.

There are two images, so that a new release of this package needs only seconds and no network: the *environment*
(Python, data packages, uv, fonts) and, on top of it, the *runner* with this package's own code. Their tags are digests
of their ingredients, so an image that exists is up to date, and none is ever overwritten.

All functions block.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ...errors import ImageError, SettingsError
from ..network import NetworkSettings, redact
from .pull import architecture, inspect_image, pull_image, registry_obstacle, shortened

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from .api import DockerApi

__all__ = [
    "LABEL_BASE",
    "LABEL_CONTENT",
    "LABEL_DATE",
    "LABEL_IMAGE",
    "ImageRecipe",
    "build_obstacle",
    "ensure_image",
    "is_build_locked",
    "released_image",
    "warn_if_old",
]

logger = logging.getLogger(__name__)

LABEL_IMAGE = "mcp-agentrun.image"
"""Label of all images of this program, including those of unfinished builds."""

LABEL_BASE = "mcp-agentrun.base"
"""Label with the name and digest of an image's base."""

LABEL_CONTENT = "mcp-agentrun.content"
"""Label of a runner image with the digest of its ingredients, as in its tag."""

LABEL_DATE = "mcp-agentrun.date"
"""Label with the date up to which an image's base has the distribution's updates."""

OLD_DAYS = 60

_DEFAULT_BASE = "python:3.13-slim"
_DEBIAN_BASE = "mcp-agentrun-base:trixie"
_DEBIAN_ARCHITECTURES = {"amd64": "amd64", "arm64": "arm64", "arm": "armhf", "ppc64le": "ppc64el", "s390x": "s390x"}

_SILENCE_SECONDS = 900
"""Longest time that a build step may run without output. Large downloads print nothing."""

_LOCK_SECONDS = 1800
_PULL_SECONDS = 900
"""Longest time to pull the runner image before it is built instead."""

_RUNNER = "mcp-agentrun-runner"

_STEP = re.compile(r"(?:\[\d+/\d+\] )?step (\d+/\d+) ?:", re.IGNORECASE)
_STEP_IMAGE = re.compile(r"--> (?:Using cache )?([0-9a-f]{11,64})\n")
_PIN = re.compile(r"^(?P<name>\S+?)==(?P<version>\S+) .*\n(?P<hashes>(?: +--hash=.*\n)+)", re.MULTILINE)
_COLOR = re.compile(r"\x1b\[[\d;]*m")
_NOISE = re.compile(
    _STEP.pattern + r"| ?---?> |COMMIT |Removing intermediate container|Successfully (built|tagged)", re.IGNORECASE
)


@dataclass(frozen=True)
class ImageRecipe:
    """The ingredients of the runner image.

    :param base: a Debian-based image with Python and ``venv``.
    :param packages: requirements (PEP 508, without URLs) to install for user code to import.
    :param registry: where to pull the image from instead of building it: a repository that has it under its content
        tag, or ``REPOSITORY:TAG@DIGEST``, which is ignored unless the tag is that of this recipe. None or ``"none"``:
        nowhere.
    """

    base: str = _DEFAULT_BASE
    packages: tuple[str, ...] = ("numpy", "pandas", "matplotlib")
    registry: str | None = None

    @property
    def tag(self) -> str:
        """Name of the runner image, which depends only on the ingredients.

        :raises SettingsError: a package is not a valid requirement.
        """
        return f"{_RUNNER}:{self.content}"

    @property
    def content(self) -> str:
        """Digest of the ingredients, in hexadecimal."""
        return _digest({**self.environment_files(), **self.runner_files()}, self.base)

    @property
    def published(self) -> str | None:
        """Name of the image in the registry, or None if the registry can't have it."""
        if self.registry in (None, "none"):
            return None
        name, at, digest = self.registry.partition("@")
        repository, colon, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "")
        content = self.content
        if not at:
            return f"{name}:{content}"
        return f"{repository}@{digest}" if not colon or tag == content else None

    @property
    def environment_tag(self) -> str:
        """Name of the image that the runner image is built on."""
        return "mcp-agentrun-environment:" + _digest(self.environment_files(), self.base)

    def environment_files(self) -> dict[str, bytes]:
        """Return the build context of the environment: content by path."""
        folder = _context_folder()
        return {
            "Dockerfile": _text(folder / "environment.Dockerfile"),
            **self._pinned_files(),
            "prepare_matplotlib.py": _text(folder / "prepare_matplotlib.py"),
            "requirements.txt": self._requirements().encode(),
        }

    def runner_files(self) -> dict[str, bytes]:
        """Return the build context of the runner: content by path."""
        folder = _context_folder()
        files = {"runner.Dockerfile": _text(folder / "Dockerfile")}
        for path in (*sorted((folder / "runner").rglob("*.py")), *sorted((folder / "IPython").rglob("*.py"))):
            files[path.relative_to(folder).as_posix()] = _text(path)
        package = Path(__file__).parents[2]
        modules = ("notebook.py", "wire/codec.py", "wire/messages.py", "wire/records.py", "packages/pins.py")
        safety = [path for path in (package / "safety").iterdir() if path.suffix in (".py", ".toml")]
        for path in (*(package / name for name in modules), *sorted(safety)):
            files[f"mcp_agentrun/{path.relative_to(package).as_posix()}"] = _text(path)
        return files

    def _requirements(self) -> str:
        return "".join(f"{line}\n" for line in sorted(set(map(str, self._parsed()))))

    def _parsed(self) -> list[Requirement]:
        from packaging.requirements import InvalidRequirement, Requirement

        parsed: list[Requirement] = []
        for package in self.packages:
            try:
                requirement = Requirement(package)
            except InvalidRequirement as error:
                raise SettingsError(
                    f"image_packages: {redact(package)!r} is not a package requirement", setting="image_packages"
                ) from error
            if requirement.url is not None:  # it would be written into the image, with the credentials in it
                raise SettingsError(
                    f"image_packages: {requirement.name} is given by URL; name it and set an index instead",
                    setting="image_packages",
                )
            parsed.append(requirement)
        return parsed

    def _pinned_files(self) -> dict[str, bytes]:
        """Return versions and hashes of uv and the runner's libraries, and of the packages if all requested ones are
        pinned: others might not be compatible with the pinned versions.
        """
        from packaging.utils import canonicalize_name

        text = _text(_context_folder() / "constraints.txt").decode()
        pins = {match["name"]: match for match in _PIN.finditer(text)}
        tools = [pins[name] for name in ("packaging", "restrictedpython", "uv")]
        known = all(
            (pin := pins.get(canonicalize_name(wanted.name))) is not None and wanted.specifier.contains(pin["version"])
            for wanted in self._parsed()
        )
        return {
            "tools.txt": "".join(f"{pin['name']}=={pin['version']} \\\n{pin['hashes']}" for pin in tools).encode(),
            "constraints.txt": "".join(pin[0] for pin in pins.values() if known).encode(),
        }


def ensure_image(api: DockerApi, recipe: ImageRecipe, report: Callable[[str], None], *, refresh: bool = False) -> str:
    """Return the tag of the runner image for *recipe*, after pulling or building it if the engine does not have it.

    :param report: called with a line for each step.
    :param refresh: rebuild it on the newest base.
    :raises ImageError: it could not be built; the message says why and what to do, without credentials.
    :raises SettingsError: the recipe has an invalid requirement.
    """
    tag = recipe.tag
    found = None if refresh else inspect_image(api, tag)
    if found is None:
        with _build_lock(report):
            found = None if refresh else inspect_image(api, tag)  # another process may just have built it
            if found is None:
                if refresh or not _pull_runner(api, recipe, report):
                    _build_runner(api, recipe, report, refresh=refresh)
                _remove_old_images(api, keep={tag, recipe.environment_tag})
                found = inspect_image(api, tag) or {}
    warn_if_old(found, "Run `mcp-agentrun build --refresh`.")
    return tag


def released_image() -> str | None:
    """Return where the image of this release can be pulled, as `ImageRecipe.registry`; None in a checkout."""
    file = _context_folder() / "released.txt"
    return file.read_text("ascii").strip() if file.is_file() else None


def build_obstacle(api: DockerApi, recipe: ImageRecipe) -> str | None:
    """Return why the image can be neither pulled nor built, as far as that can be known in advance, or None."""
    published, base = recipe.published, recipe.base
    if published is not None and registry_obstacle(api, published) is None:
        return None
    # With the environment, a build needs no network.
    images = (recipe.environment_tag, base, *((_DEBIAN_BASE,) if base == _DEFAULT_BASE else ()))
    if any(inspect_image(api, image) is not None for image in images) or (base == _DEFAULT_BASE and _can_bootstrap()):
        return None
    return registry_obstacle(api, base)


def is_build_locked() -> bool:
    """Return whether another process of this user is building the image."""
    import platformdirs

    try:
        with (platformdirs.user_cache_path("mcp-agentrun", appauthor=False) / "build.lock").open("r+b") as file:
            return not _lock(file.fileno())
    except OSError:
        return False


def warn_if_old(image: Mapping[str, Any], remedy: str) -> None:
    """Log a warning, once, if *image*, as the engine describes it, has no recent updates."""
    date = _labels(image).get(LABEL_DATE, "")
    with contextlib.suppress(ValueError):  # it has no such label
        days = (datetime.now(timezone.utc).date() - datetime.fromisoformat(date).date()).days
        if days > OLD_DAYS and image.get("Id") not in _warned:
            _warned.add(image.get("Id"))
            logger.warning("The runner image has had no security updates for %d days. %s", days, remedy)


_warned: set[object] = set()


def _labels(image: Mapping[str, Any]) -> dict[str, str]:
    config: dict[str, Any] = image.get("Config") or {}
    return config.get("Labels") or {}


@dataclass(frozen=True)
class _Base:
    """A base image, and the date up to which it has the distribution's updates."""

    image: str
    digest: str
    date: str

    @property
    def labels(self) -> dict[str, str]:
        return {LABEL_BASE: f"{self.image.partition('@')[0]}@{self.digest}", LABEL_DATE: self.date}


def _pull_runner(api: DockerApi, recipe: ImageRecipe, report: Callable[[str], None]) -> bool:
    """Pull the runner image, if the registry has it. Return whether it now has its usual name on the engine."""
    published = recipe.published
    if published is None:
        return False
    was_there = inspect_image(api, published) is not None
    failure = pull_image(api, published, report, seconds=_PULL_SECONDS)
    found = inspect_image(api, published)
    if found is not None:
        problem = _mismatch(api, recipe, found)
        if problem is None:
            api.tag(published, _RUNNER, recipe.content)
        else:
            logger.warning("%s is not used: %s", published, problem)
        if not was_there:
            with contextlib.suppress(Exception):  # in use by others
                api.remove_image(published)  # only the name, if it has another one
        if problem is None:
            return True
        failure = problem
    failure = redact(shortened(failure or "the engine does not have it"))
    report(f"{published} can't be used ({failure}); building the image instead")
    return False


def _mismatch(api: DockerApi, recipe: ImageRecipe, image: Mapping[str, Any]) -> str | None:
    """Return how *image*, as the engine describes it, differs from the image of *recipe*, or None."""
    labels = _labels(image)
    if labels.get(LABEL_IMAGE) != "runner" or labels.get(LABEL_CONTENT) != recipe.content:
        return f"it has the content {labels.get(LABEL_CONTENT, 'of another program')!a}, not {recipe.content!a}"
    if (built_for := architecture(image)) != (engine := architecture(api.info())):
        return f"it is for {built_for}, and the engine's machine is {engine}"
    return None


def _build_runner(api: DockerApi, recipe: ImageRecipe, report: Callable[[str], None], *, refresh: bool) -> None:
    if refresh or inspect_image(api, recipe.environment_tag) is None:
        network = NetworkSettings.from_environment(os.environ)
        base = _find_base(api, recipe.base, report, refresh=refresh)
        _build(
            api,
            recipe.environment_tag,
            {**recipe.environment_files(), "ca-bundle.pem": network.ca_bundle or b""},
            {"BASE": base.image, **network.environment()},
            lambda text: report(f"building the image, which takes minutes and is done once: {text}"),
            labels=base.labels,
            refresh=refresh,
        )
    _build(
        api,
        recipe.tag,
        recipe.runner_files(),
        {"ENVIRONMENT": recipe.environment_tag},
        lambda text: report(f"building the image's last layer: {text}"),
        dockerfile="runner.Dockerfile",
        labels={LABEL_CONTENT: recipe.content},
    )


def _build(
    api: DockerApi,
    tag: str,
    files: Mapping[str, bytes],
    arguments: Mapping[str, str],
    report: Callable[[str], None],
    *,
    dockerfile: str = "Dockerfile",
    labels: Mapping[str, str] = MappingProxyType({}),
    refresh: bool = False,
) -> None:
    import docker.errors

    steps: list[str] = []
    output: deque[str] = deque(maxlen=15)
    failure: str | None = None
    try:
        events: Iterator[dict[str, Any]] = api.build(
            fileobj=_tar(files),
            custom_context=True,
            dockerfile=dockerfile,
            tag=tag,
            buildargs=dict(arguments),
            labels=dict(labels),
            nocache=refresh,
            rm=True,
            forcerm=True,
            decode=True,
            timeout=_SILENCE_SECONDS,
        )
        for event in events:
            failure = event.get("error", failure)  # read to the end, or the connection would stay open
            text = _COLOR.sub("", str(event.get("stream", "")))
            if step := _STEP.match(text):
                report(f"step {step[1]}")
            elif text.startswith("warning: "):
                report(redact(text.strip()))
            steps += _STEP_IMAGE.findall(text)
            output.extend(line for line in text.splitlines() if line.strip() and not _NOISE.match(line))
    except docker.errors.APIError as error:
        failure = str(error.explanation or error)
    finally:
        # The stages contain index URLs with credentials, and are larger than the image itself.
        _remove_untagged(api, steps)
    if failure is None and inspect_image(api, tag) is None:
        failure = "the engine reported no error, but there is no image"
    if failure is not None:
        raise ImageError(_build_failure(failure, output))


def _build_failure(error: str, output: deque[str]) -> str:
    lines = [*output, shortened(error)]
    if any("no space left on device" in line.lower() for line in lines):
        return (
            "The runner image could not be built: the engine's disk is full. Free some space (`docker system prune`)."
        )
    text = redact("\n".join(lines))
    return f"The runner image could not be built. The last lines of the build were:\n{text}"


def _find_base(api: DockerApi, base: str, report: Callable[[str], None], *, refresh: bool) -> _Base:
    """Find an image to build on: *base*, or, if the default base can't be pulled, Debian built on this machine.

    :param refresh: don't use an existing image.
    """
    is_default = base == _DEFAULT_BASE
    for image in (base, _DEBIAN_BASE) if is_default else (base,):
        if not refresh and (found := inspect_image(api, image)) is not None:
            return _described(image, found, str(found.get("Created") or "")[:10])
    today = datetime.now(timezone.utc).date().isoformat()
    failure = pull_image(api, base, report)
    if failure is None:
        return _described(base, inspect_image(api, base) or {}, today)
    if is_default and _can_bootstrap() and inspect_image(api, base) is None:
        report(f"{base} can't be pulled; building Debian with mmdebstrap instead")
        _bootstrap_debian(api)
        return _described(_DEBIAN_BASE, inspect_image(api, _DEBIAN_BASE) or {}, today)
    remedy = "Connect the engine to a registry that has it, or set AGENTRUN_IMAGE_BASE to an image that the engine has"
    if is_default:
        remedy += (
            "; on Debian or Ubuntu, `apt-get install mmdebstrap debian-archive-keyring` and then "
            "`mcp-agentrun build` as root build one from Debian's packages"
        )
    raise ImageError(
        f"The runner image can't be built, because its base {base!r} is not on the engine and can't be pulled: "
        f"{redact(shortened(failure))}. {remedy}."
    )


def _described(image: str, found: Mapping[str, Any], date: str) -> _Base:
    digests = [str(name).partition("@")[2] for name in found.get("RepoDigests") or ()]
    return _Base(image, next(filter(None, digests), str(found.get("Id", ""))), date)


def _can_bootstrap() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("mmdebstrap") is not None


def _bootstrap_debian(api: DockerApi) -> None:
    """Build the image `_DEBIAN_BASE` from Debian's packages."""
    import docker.errors

    engine = api.version()["Arch"]
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--architectures={_DEBIAN_ARCHITECTURES.get(engine, engine)}",
        "--include=python3,python3-venv,ca-certificates",
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "info", "locale", "man")),
        "trixie",
    ]
    answer = ""
    with tempfile.TemporaryFile() as log:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as process:
            pipe = process.stdout
            assert pipe is not None
            try:
                archive = iter(lambda: pipe.read(1 << 20), b"")
                answer = api.import_image_from_stream(archive, changes=[f"LABEL {LABEL_IMAGE}=base"])
            except docker.errors.APIError as error:  # including the case that mmdebstrap failed and sent no archive
                answer = str(error.explanation or error)
                process.terminate()
            except BaseException:
                process.terminate()
                raise
        log.seek(0)
        errors = log.read().decode(errors="replace").splitlines()
    image = re.search(r"sha256:[0-9a-f]{64}", answer)
    if process.returncode != 0 or image is None:
        if image is not None:
            api.remove_image(image[0])
        text = redact("\n".join([*errors[-10:], shortened(answer)]))
        raise ImageError(f"mmdebstrap could not build a base for the runner image:\n{text}")
    repository, _, tag = _DEBIAN_BASE.partition(":")
    api.tag(image[0], repository, tag)


def _remove_untagged(api: DockerApi, images: list[str]) -> None:
    """Remove those of *images* that have no tag and no child."""
    for image in reversed(images):
        with contextlib.suppress(Exception):  # in use, or removed with its child
            if not api.inspect_image(image)["RepoTags"]:
                api.remove_image(image)


def _remove_old_images(api: DockerApi, keep: set[str]) -> None:
    """Remove images of other releases and recipes of this program. The engine keeps those in use."""
    for kind in ("runner", "environment", "build"):
        with contextlib.suppress(Exception):  # housekeeping is no reason to fail
            for image in api.images(filters={"label": f"{LABEL_IMAGE}={kind}"}):
                if keep.isdisjoint(image["RepoTags"] or ()):
                    with contextlib.suppress(Exception):
                        api.remove_image(image["Id"])


@contextlib.contextmanager
def _build_lock(report: Callable[[str], None]) -> Generator[None]:
    """Prevent concurrent builds by processes of this user, which would only take longer.

    The result does not depend on it, so a lock that can't be created is ignored.
    """
    import platformdirs

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            folder = platformdirs.user_cache_path("mcp-agentrun", appauthor=False, ensure_exists=True)
            file = stack.enter_context((folder / "build.lock").open("ab"))
            deadline = time.monotonic() + _LOCK_SECONDS
            has_reported = False
            while not _lock(file.fileno()) and time.monotonic() < deadline:
                if not has_reported:
                    report("waiting for another process that is building the runner image")
                    has_reported = True
                time.sleep(0.25)
            stack.callback(_unlock, file.fileno())
        yield


def _lock(descriptor: int) -> bool:
    """Try to lock an open file. The lock is released when the file is closed or the process ends."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
    else:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _unlock(descriptor: int) -> None:
    """Release the lock of an open file, also where a process that was forked meanwhile has the file open."""
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _context_folder() -> Path:
    package = Path(__file__).parents[2]
    installed = package / "_runner_image"
    return installed if installed.is_dir() else package.parent / "runner_image"


def _text(path: Path) -> bytes:
    # On Windows, a checkout may have other line endings, which would change shell commands and the digest.
    return path.read_bytes().replace(b"\r\n", b"\n")


def _digest(files: Mapping[str, bytes], base: str) -> str:
    digest = hashlib.sha256(base.encode())
    for name, content in sorted(files.items()):
        digest.update(f"\0{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _tar(files: Mapping[str, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(content))
    buffer.seek(0)
    return buffer
