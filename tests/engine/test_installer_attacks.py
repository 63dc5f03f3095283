"""Wheels, sources, index pages and wheelhouses made to have code executed in the installer, or to have it install
something else. Only the public surface is used: what is attacked may be written anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import tarfile
import threading
import warnings
import zipfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest
from docker import APIClient

from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.errors import AgentRunError, InstallError
from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.settings import Settings
from tests.support.containers import containers_of
from tests.support.local_index import digest_of, gateway_of, make_source, make_wheel, serve_index
from tests.support.sandboxes import installing, open_sandbox, text_of
from tests.support.serving import serving

pytestmark = pytest.mark.anyio

PAYLOAD = """
import os, socket
try:
    socket.create_connection(({host!r}, {port}), timeout=5).close()
except OSError:
    pass
places = ["/tmp", "/dev/shm", "/workspace", os.getcwd(), os.environ.get("HOME", "/"), os.environ.get("TMPDIR", "/")]
for place in [*places, *(folder for folder, _, _ in os.walk("/packages"))]:
    try:
        open(os.path.join(place, {mark!r}), "w").close()
    except OSError:
        pass
"""
"""Leaves a mark wherever it can, and calls home: what any code of a package does that is executed."""

BACKEND = "def _refuse(*_, **__): raise SystemExit\nbuild_wheel = build_editable = build_sdist = _refuse\n"
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


class Trap:
    """Notices that a payload was executed."""

    def __init__(self, api: APIClient) -> None:
        self._api = api
        self.calls = 0
        self._mark = f"executed-{os.urandom(8).hex()}"  # of this trap: the volume may have those of others
        self._listening = socket.create_server((gateway_of(api), 0))
        threading.Thread(target=self._accept, daemon=True).start()
        self.payload = PAYLOAD.format(host=gateway_of(api), port=self._listening.getsockname()[1], mark=self._mark)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listening.accept()
                self.calls += 1
                connection.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def marks(self) -> list[str]:
        """Where a payload has left its mark, in this process's containers."""
        found: list[str] = []
        for container in containers_of(self._api, os.getpid()):
            command = ["find", "/packages", "/tmp", "/dev/shm", "/workspace", "-name", self._mark]
            made = self._api.exec_create(container, command, stderr=False)
            found += self._api.exec_start(made["Id"]).decode().split()
        return found

    def sprang(self) -> bool:
        """Whether a payload was executed since the last call."""
        calls, self.calls = self.calls, 0
        return bool(calls or self.marks())


@pytest.fixture(scope="module")
def trap(api: APIClient) -> Iterator[Trap]:
    trap = Trap(api)
    yield trap
    trap.close()


@dataclass(frozen=True)
class Place:
    """What an attacker may know."""

    name: str
    """Of the attacking distribution."""
    folder: str
    """Where the installer keeps its unpacked wheel."""
    url: str
    """Of a source distribution that executes the payload."""

    @property
    def info(self) -> str:
        return f"{self.name}-1.0.dist-info"


Members = Sequence[tuple[str, str]]


def metadata(name: str = "zz", version: str = "1.0", more: str = "") -> str:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}\n"


def egg_info(name: str, version: str, _: Place) -> Members:
    return [("x.egg-info/PKG-INFO", metadata(name, version))]


def egg_info_file(name: str, version: str, _: Place) -> Members:
    return [("x-1.0.egg-info", metadata(name, version))]


def named_egg_info(name: str, version: str, _: Place) -> Members:
    return [("zz-1.0-py3.13.egg-info/PKG-INFO", metadata(name, version)), ("zz.egg-info/requires.txt", version)]


def second_dist_info(name: str, version: str, _: Place) -> Members:
    return [("zz-1.0.dist-info/METADATA", metadata(name, version)), ("zz-1.0.dist-info/RECORD", "")]


def nested_dist_info(name: str, version: str, place: Place) -> Members:
    return [(f"{place.name}-1.0.data/purelib/zz-1.0.dist-info/METADATA", metadata(name, version))]


def data_egg_info(name: str, version: str, place: Place) -> Members:
    return [(f"{place.name}-1.0.data/purelib/zz.egg-info/PKG-INFO", metadata(name, version))]


def metadata_again(name: str, version: str, place: Place) -> Members:
    return [(f"{place.info}/METADATA", metadata(name, version))]


def own_version(_: str, version: str, place: Place) -> Members:
    return [(f"{place.info}/METADATA", metadata(place.name, version))]


def own_name(_: str, version: str, place: Place) -> Members:
    return [(f"{place.info}/METADATA", metadata(f"{place.name}\n {version}"))]


def folder_names(_: str, version: str, __: Place) -> Members:
    return [(f"zz-{version.replace('/', '_')}.dist-info/METADATA", metadata("zz"))]


LIARS = [egg_info, egg_info_file, named_egg_info, second_dist_info, nested_dist_info, data_egg_info]
REPLACING = [metadata_again, own_version, own_name, folder_names]

LINES: dict[str, str] = {
    "editable": "1.0\n -e {folder}",
    "editable by URL": "1.0\n --editable=file://{folder}",
    "carriage return": "1.0\r -e {folder}",
    "line separator": "1.0\u2028-e {folder}",
    "vertical tab": "1.0\v-e {folder}\f-e {folder}",
    "path": "1.0\n {folder}",
    "URL of a folder": "1.0\n zz @ file://{folder}",
    "URL of a source": "1.0\n evil @ {url}",
    "marker": "1.0 ; python_version > '3'\n evil @ {url} ; python_version > '3'",
    "index": "1.0\n --index-url file://{folder}\n --no-binary :all:",
    "links": "1.0\n --find-links {folder}\n --find-links {url}\n evil",
    "extra index": "1.0\n --extra-index-url {url}\n evil",
    "requirements": "1.0\n -r {folder}/more.txt",
    "constraints": "1.0\n -c {folder}/more.txt",
    "continuation": "1.0 \\\n -e {folder} \\\n --no-binary=:all:",
    "hash": "1.0 --hash=sha256:" + "0" * 64 + "\n -e {folder}",
    "arbitrary equality": "==1.0\n -e {folder}",
    "variable": "1.0\n -e ${{HOME}}/../site",
    "no binary": "1.0\n --no-binary zz\n --only-binary :none:",
}
"""What stands in place of a version, as a folded header has it."""


def executable(trap: Trap, place: Place) -> Members:
    """What executes the payload, if anybody builds, imports or reads it as what it says it is."""
    code = trap.payload
    return [
        ("backend.py", code + BACKEND),
        ("setup.py", code),
        ("pyproject.toml", PROJECT + '\n[project]\nname = "zz"\nversion = "1.0"\n[tool.uv]\nno-binary = true\n'),
        ("more.txt", f"-e {place.folder}\n{place.url}\n"),
        ("uv.toml", "no-binary = true\n"),
        ("payload.pth", "import payload\n"),
        ("payload.py", code),
        ("sitecustomize.py", code),
        ("usercustomize.py", code),
    ]


def write_wheel(
    folder: Path, place: Place, added: Members, *, replaced: Mapping[str, str] | None = None, record: str | None = None
) -> Path:
    """A wheel with *added* members, whose names may be there already, and with others *replaced*."""
    name, info = place.name, place.info
    folder.mkdir(parents=True, exist_ok=True)
    members = {
        f"{name}.py": "VERSION = '1.0'\n",
        f"{info}/METADATA": metadata(name),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **(replaced or {}),
    }
    everything = [*members.items(), *added]
    lines = record if record is not None else "".join(f'"{path}",,\n' for path, _ in everything)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # about the names that are there twice
        for member, content in (*everything, (f"{info}/RECORD", f"{lines}{info}/RECORD,,\n")):
            archive.writestr(member, content)
    return path


def write_source(folder: Path, name: str, payload: str) -> Path:
    """A source distribution that executes *payload* when it is built."""
    path = folder / f"{name}-1.0.tar.gz"
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for member, content in (
            ("backend.py", payload + BACKEND),
            ("setup.py", payload),
            ("pyproject.toml", PROJECT),
            ("PKG-INFO", metadata(name)),
        ):
            entry = tarfile.TarInfo(f"{name}-1.0/{member}")
            entry.size = len(content.encode())
            archive.addfile(entry, BytesIO(content.encode()))
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, trap: Trap) -> Path:
    root = tmp_path_factory.mktemp("index")
    for version in ("1.0", "2.0"):
        make_wheel(root / "simple" / "honest", "honest", version)
    make_wheel(root / "simple" / "probe", "probe")
    write_source(root / "simple" / "evil", "evil", trap.payload)
    return root


@pytest.fixture(scope="module")
async def place_of(sandbox: AsyncSandbox, api: APIClient, index: str) -> Callable[[str], Place]:
    """Where the installer unpacks a wheel, which an attacker can find out on an installation of its own."""
    await sandbox.install("probe")
    found: list[str] = []
    for container in containers_of(api, os.getpid()):
        made = api.exec_create(container, ["find", "/packages", "-path", "*/probe/*"], stderr=False)
        found += api.exec_start(made["Id"]).decode().split()
    kept = [path for path in found if path.endswith("1.0-py3-none-any")]
    assert kept, found
    return lambda name: Place(name, kept[0].replace("/probe/", f"/{name}/"), f"{index}evil/evil-1.0.tar.gz")


async def require_harmless(sandbox: AsyncSandbox, trap: Trap, place: Place) -> None:
    """Install what *place* names, alone and then again beside another package, and see that nothing was executed, that
    nothing else was installed, and that the other package is right.
    """
    allowed = {place.name, "honest"}
    await sandbox.reset()
    with contextlib.suppress(InstallError):
        assert {name for name, _ in (await sandbox.install(place.name)).packages} <= allowed
    await sandbox.reset()
    try:
        installed = await sandbox.install(place.name, "honest<2")
    except InstallError:
        installed = await sandbox.install("honest<2")
    assert {name for name, _ in installed.packages} <= allowed
    assert ("honest", "1.0") in installed.packages
    code = "import sys, honest; print(honest.VERSION, 'payload' in sys.modules, 'zz' in sys.modules)"
    assert await text_of(sandbox, code) == "1.0 False False\n"
    assert not trap.sprang()


@pytest.mark.parametrize("liar", LIARS)
async def test_metadata_of_others_that_a_wheel_carries(
    sandbox: AsyncSandbox, root: Path, trap: Trap, place_of: Callable[[str], Place], liar: Callable[..., Members]
) -> None:
    """All lines at once in one wheel, and then each in a wheel of its own, by the shape that has worked once."""
    place = place_of(f"liar{liar.__name__.replace('_', '')}")
    lies = [
        liar(f"zz{number}" if number else "zz", line.format(folder=place.folder, url=place.url), place)
        for number, line in enumerate(LINES.values())
    ]
    added = [*executable(trap, place), *dict(member for lie in lies for member in lie).items()]
    write_wheel(root / "simple" / place.name, place, added)
    await require_harmless(sandbox, trap, place)


@pytest.mark.parametrize("line", LINES)
async def test_lines_in_place_of_a_version(
    sandbox: AsyncSandbox, root: Path, trap: Trap, place_of: Callable[[str], Place], line: str
) -> None:
    place = place_of("line" + re.sub("[^a-z]", "", line.lower()))
    version = LINES[line].format(folder=place.folder, url=place.url)
    added = [*executable(trap, place), *egg_info("zz", version, place)]
    write_wheel(root / "simple" / place.name, place, added)
    await require_harmless(sandbox, trap, place)


@pytest.mark.parametrize("line", ["editable", "carriage return", "URL of a source", "continuation", "requirements"])
@pytest.mark.parametrize("liar", REPLACING)
async def test_metadata_of_its_own_that_lies(
    sandbox: AsyncSandbox,
    root: Path,
    trap: Trap,
    place_of: Callable[[str], Place],
    liar: Callable[..., Members],
    line: str,
) -> None:
    place = place_of(f"own{liar.__name__.replace('_', '')}{line[:3].lower()}{line[-3:].lower()}")
    lie = liar("zz", LINES[line].format(folder=place.folder, url=place.url), place)
    replaced = dict(lie) if liar in (own_version, own_name) else {}
    added = executable(trap, place) if replaced else [*executable(trap, place), *lie]
    write_wheel(root / "simple" / place.name, place, added, replaced=replaced)
    await require_harmless(sandbox, trap, place)


def direct_url(place: Place) -> Members:
    about = {"url": f"file://{place.folder}", "dir_info": {"editable": True}}
    return [(f"{place.info}/direct_url.json", json.dumps(about)), (f"{place.info}/REQUESTED", "")]


def direct_url_of_a_source(place: Place) -> Members:
    return [(f"{place.info}/direct_url.json", json.dumps({"url": place.url, "archive_info": {}}))]


def installed_by(place: Place) -> Members:
    return [(f"{place.info}/INSTALLER", f"pip\n-e {place.folder}\n"), (f"{place.info}/uv_cache.json", "{}")]


def entry_points(place: Place) -> Members:
    points = (
        f"[console_scripts]\nuv = payload:main\n../../uv = payload:main\npython = payload:main\n"
        f"a b\\n-e {place.folder} = payload:main\n[distutils.commands]\nx = payload:x\n"
        "[setuptools.finalize_distribution_options]\nx = payload:x\n"
    )
    return [(f"{place.info}/entry_points.txt", points)]


def old_links(place: Place) -> Members:
    return [
        ("easy-install.pth", f"{place.folder}\nimport payload\n"),
        ("zz.egg-link", f"{place.folder}\n."),
        ("__editable__.zz-1.0.pth", place.folder),
        ("__editable___zz_finder.py", "import payload"),
    ]


def lock_files(place: Place) -> Members:
    lock = f'lock-version = "1.0"\n[[packages]]\nname = "zz"\n[packages.directory]\npath = "{place.folder}"\n'
    return [("pylock.toml", lock), ("uv.lock", lock), ("requirements.txt", f"-e {place.folder}\n")]


OTHER_FILES: dict[str, Callable[[Place], Members]] = {
    made.__name__: made
    for made in (direct_url, direct_url_of_a_source, installed_by, entry_points, old_links, lock_files)
}


RECORDS: dict[str, str] = {
    "nothing": "",
    "others": "../honest.py,,\n../../../../../../usr/local/bin/uv,,\nhonest-1.0.dist-info/METADATA,,\n",
    "absolute": "/usr/local/bin/uv,,\n/etc/passwd,,\n/packages/x,,\n",
    "wrong hashes": "RECORD_payload.py,sha256=AAAA,1\nbackend.py,md5=x,-1\n",
    "not CSV": '"\n-e /packages\n,,,,,\n',
}


NEEDS: dict[str, str] = {
    "a folder": "Requires-Dist: zz @ file://{folder}",
    "a source": "Requires-Dist: evil @ {url}",
    "a source by name": "Requires-Dist: evil",
    "an option": "Requires-Dist: -e {folder}",
    "a fold": "Requires-Dist: honest\n -e {folder}",
    "a continuation": "Requires-Dist: honest \\\n -e {folder}",
    "a repository": "Requires-Dist: zz @ git+file://{folder}",
    "a marker": "Requires-Dist: evil @ {url} ; python_version > '3'",
    "an extra": "Provides-Extra: x\n -e {folder}\nRequires-Dist: honest[x\n -e] ; extra == 'x'",
    "a Python": "Requires-Python: >=3\n -e {folder}",
}


FAULTS = [
    *(("file", name) for name in OTHER_FILES),
    *(("record", name) for name in RECORDS),
    *(("needs", name) for name in NEEDS),
]


@pytest.mark.parametrize(("kind", "name"), FAULTS)
async def test_wheels_that_lie(
    sandbox: AsyncSandbox, root: Path, trap: Trap, place_of: Callable[[str], Place], kind: str, name: str
) -> None:
    place = place_of(kind + re.sub("[^a-z]", "", name.lower()))
    folder, added = root / "simple" / place.name, executable(trap, place)
    if kind == "file":
        write_wheel(folder, place, [*added, *OTHER_FILES[name](place)])
    elif kind == "record":
        write_wheel(folder, place, added, record=RECORDS[name])
    else:
        about = metadata(place.name, more=NEEDS[name].format(folder=place.folder, url=place.url))
        write_wheel(folder, place, added, replaced={f"{place.info}/METADATA": about})
    await require_harmless(sandbox, trap, place)


# -- index pages


@contextmanager
def serve_pages(api: APIClient, pages: Mapping[str, tuple[str, bytes]]) -> Generator[str]:
    """Serve *pages*, each type and content by path; gives the URL of what is below ``/simple/``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = pages.get(self.path)
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", found[0] if found else "text/plain")
            self.send_header("Content-Length", str(len(found[1]) if found else 0))
            self.end_headers()
            if found and self.command == "GET":
                self.wfile.write(found[1])

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((gateway_of(api), 0), Handler)
    with serving(server):
        yield f"http://{gateway_of(api)}:{server.server_port}/simple/"


JSON, HTML, BYTES = "application/vnd.pypi.simple.v1+json", "text/html", "application/octet-stream"
Pages = dict[str, tuple[str, bytes]]
Lie = Callable[[Path, Path], Pages]


def listed(name: str, *files: Mapping[str, object], **more: object) -> tuple[str, bytes]:
    return JSON, json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": files, **more}).encode()


def file_of(path: Path, **more: object) -> dict[str, object]:
    return {"filename": path.name, "url": f"/files/{path.name}", "hashes": {"sha256": digest_of(path)}, **more}


def served_files(*paths: Path) -> Pages:
    return {f"/files/{path.name}": (BYTES, path.read_bytes()) for path in paths}


def names_with_lines(wheel: Path, source: Path) -> Pages:
    names = ["lied-1.0\n-e /packages-py3-none-any.whl", "-e lied-3.0-py3-none-any.whl", "lied-2.0 @ x-py3-none-any.whl"]
    files = [file_of(wheel, filename=name) for name in names]
    return {"/simple/lied/": listed("lied\n-e /packages", *files, file_of(wheel), versions=["9\n-e /packages"])}


def addresses_of_files(wheel: Path, source: Path) -> Pages:
    urls = ["file:///packages", "file:///etc/passwd", "git+file:///packages", "//[", "-e /packages", "\nfile:///x"]
    files = [file_of(wheel, url=url, filename=f"lied-{n}.0-py3-none-any.whl") for n, url in enumerate(urls, 2)]
    return {"/simple/lied/": listed("lied", *files)}


def a_source_called_wheel(wheel: Path, source: Path) -> Pages:
    named = file_of(source, filename="lied-5.0-py3-none-any.whl", url=f"/files/{source.name}")
    return {"/simple/lied/": listed("lied", named)}


def a_wheel_of_something_else(wheel: Path, source: Path) -> Pages:
    return {"/simple/lied/": listed("lied", file_of(wheel, filename="lied-7.0-py3-none-any.whl"))}


def wrong_hashes(wheel: Path, source: Path) -> Pages:
    return {"/simple/lied/": listed("lied", file_of(wheel, hashes={"sha256": "0" * 64}))}


def metadata_by_itself(text: str, wheel: Path, source: Path) -> Pages:
    page = listed("lied", file_of(wheel, **{"core-metadata": True}))
    return {"/simple/lied/": page, f"/files/{wheel.name}.metadata": (BYTES, text.encode())}


def odd_fields(wheel: Path, source: Path) -> Pages:
    odd = {"requires-python": ">=3\n-e /packages", "yanked": "\n-e /packages", "upload-time": "x", "size": -1}
    return {"/simple/lied/": listed("lied", file_of(wheel, **odd), file_of(source))}


def only_a_source(wheel: Path, source: Path) -> Pages:
    return {"/simple/lied/": listed("lied", file_of(source))}


def deep_json(wheel: Path, source: Path) -> Pages:
    return {"/simple/lied/": (JSON, b"[" * 100_000)}


def html_with_a_base(wheel: Path, source: Path) -> Pages:
    page = (
        f'<base href="file:///packages/"><a href="{wheel.name}">{wheel.name}</a>'
        f'<a href="{source.name}" data-requires-python="&gt;=3&#10;-e /packages">lied-9.0&#10;-e /x.tar.gz</a>'
    )
    return {"/simple/lied/": (HTML, page.encode())}


PAGES: dict[str, Lie] = {
    "names with lines": names_with_lines,
    "addresses of files": addresses_of_files,
    "a source called a wheel": a_source_called_wheel,
    "a wheel of something else": a_wheel_of_something_else,
    "wrong hashes": wrong_hashes,
    "odd fields": odd_fields,
    "only a source": only_a_source,
    "deep JSON": deep_json,
    "HTML with a base": html_with_a_base,
    "metadata with another version": partial(metadata_by_itself, metadata("lied", "1.0\n -e /packages")),
    "metadata with another name": partial(metadata_by_itself, metadata("zz\n -e /packages")),
    "metadata with a folder": partial(
        metadata_by_itself, metadata("lied", more="Requires-Dist: zz @ file:///packages")
    ),
    "metadata with a fold": partial(metadata_by_itself, metadata("lied", more="Requires-Dist: honest\n -e /packages")),
    "metadata of nothing": partial(metadata_by_itself, ""),
    "metadata of many": partial(metadata_by_itself, metadata("lied", more="Classifier: x\n" * 50_000)),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """What `serve_pages` serves, to which each test adds its own."""
    honest = [make_wheel(tmp_path_factory.mktemp("honest"), "honest", version) for version in ("1.0", "2.0")]
    return served_files(*honest) | {"/simple/honest/": listed("honest", *map(file_of, honest))}


@pytest.fixture(scope="module")
async def liars_sandbox(
    api: APIClient, module_image: str, pages: Pages, anyio_backend: str
) -> AsyncIterator[AsyncSandbox]:
    """A sandbox that installs from an index with *pages*."""
    with serve_pages(api, pages) as url:
        async with installing(url, image=module_image) as sandbox:
            yield sandbox


@pytest.mark.parametrize("lie", PAGES)
async def test_index_pages_that_lie(
    liars_sandbox: AsyncSandbox, pages: Pages, trap: Trap, tmp_path: Path, lie: str
) -> None:
    place = Place("false" + re.sub("[^a-z]", "", lie.lower()), "/packages", "")  # of its own: uv keeps pages
    wheel = write_wheel(tmp_path, place, executable(trap, place))
    source = write_source(tmp_path, place.name, trap.payload)
    for path, (type_, content) in PAGES[lie](wheel, source).items():
        pages[path.replace("lied/", f"{place.name}/")] = type_, content.replace(b"lied", place.name.encode())
    pages |= served_files(wheel, source)
    await require_harmless(liars_sandbox, trap, place)


# -- a wheelhouse


async def test_a_wheelhouse_with_hostile_files(module_image: str, trap: Trap, tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        make_wheel(tmp_path, "honest", version)
    place = Place("housed", "/packages", str(tmp_path))
    lie = egg_info("zz", "1.0\n -e /packages", place)
    write_wheel(tmp_path, place, [*executable(trap, place), *lie])
    good = (tmp_path / "housed-1.0-py3-none-any.whl").read_bytes()
    for name in (
        "good-1.0-py3-none-any (1).whl",
        "-e housed-3.0-py3-none-any.whl",
        "housed-2.0\n-e x-py3-none-any.whl",
        "housed-1!2.0-py3-none-any.whl",
        "housed-4.0-py3-none-any.whl",
        "--index-url=x-1.0-py3-none-any.whl",
        ".whl",
        "a.whl",
        "ü-1.0-py3-none-any.whl",
        "honest-5.0-py3-none-any.WHL",
    ):
        (tmp_path / name).write_bytes(good)
    (tmp_path / "honest-1.1.zip").write_bytes(b"not an archive")
    (tmp_path / "index.html").write_text('<a href="file:///packages">housed-9.0-py3-none-any.whl</a>')
    (tmp_path / "folder-1.0-py3-none-any.whl").mkdir()
    (tmp_path / "gone-1.0-py3-none-any.whl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "looped-1.0-py3-none-any.whl").symlink_to(tmp_path / "looped-1.0-py3-none-any.whl")
    if os.name != "nt":
        os.mkfifo(tmp_path / "fifo-1.0-py3-none-any.whl")
    write_source(tmp_path, "evil", trap.payload)
    settings = Settings(safety="off", preload=(), image=module_image, wheelhouse=tmp_path, offline=True)
    async with open_sandbox(settings, NetworkSettings()) as sandbox:
        await require_harmless(sandbox, trap, place)
        for name in ("evil", "good", "folder", "gone", "fifo", "a"):
            with pytest.raises(InstallError):
                await sandbox.install(name)
        assert not trap.sprang()


async def test_an_installation_that_fails_spoils_none_of_its_other_packages(
    runner_image: str, api: APIClient, tmp_path: Path
) -> None:
    house = tmp_path / "house"
    make_wheel(house, "honest")
    malformed = make_wheel(house, "malformed")  # of which uv says so when the others have been unpacked
    malformed.rename(house / "malformed-4.0-py3-none-any.whl")
    for path in house.iterdir():
        folder = tmp_path / "simple" / path.name.partition("-")[0]
        folder.mkdir(parents=True)
        (folder / path.name).write_bytes(path.read_bytes())
    with serve_index(tmp_path, api) as url:
        for settings, network in (
            (Settings(safety="off", preload=(), wheelhouse=house, offline=True), NetworkSettings()),
            (Settings(safety="off", preload=()), NetworkSettings(index_url=url)),
        ):
            async with open_sandbox(settings, network) as sandbox:
                with pytest.raises(InstallError, match="does not match"):
                    await sandbox.install("malformed", "honest")
                for _ in range(2):
                    assert (await sandbox.install("honest")).packages == (("honest", "1.0"),)
                    assert await text_of(sandbox, "import honest; honest.VERSION") == "'1.0'\n"
                    await sandbox.reset()


# -- what a model asks for


@pytest.mark.parametrize(
    "asked",
    [
        "-e {folder}",
        "--editable={folder}",
        "honest -e {folder}",
        "honest\n-e {folder}",
        "honest\r-e {folder}",
        "honest\u2028-e {folder}",
        "honest \\\n-e {folder}",
        "zz @ file://{folder}",
        "zz @ git+file://{folder}",
        "evil @ {url}",
        "{url}",
        "{folder}",
        "./probe",
        "honest --no-binary=:all:",
        "honest; python_version > '3'\n-e {folder}",
        "honest==1.0 --hash=sha256:00\n-r {folder}/more.txt",
        "honest==1.0;extra=='\n-e {folder}'",
        "honest[x\n-e {folder}]",
        "honest===1.0\\\n-e",
        "--index-url={url}",
        "-r {folder}/more.txt",
        "evil",
    ],
)
async def test_requirements_that_are_none(
    sandbox: AsyncSandbox, trap: Trap, place_of: Callable[[str], Place], asked: str
) -> None:
    place = place_of("probe")
    await sandbox.reset()
    with contextlib.suppress(AgentRunError):
        installed = await sandbox.install(asked.format(folder=place.folder, url=place.url))
        assert {name for name, _ in installed.packages} <= {"honest"}
    await sandbox.reset()
    assert not trap.sprang()
    assert (await sandbox.install("honest")).packages == (("honest", "2.0"),)


# -- sources, where they may be built

REACH = """
import glob, json, os
reached = []
def attempt(what, act):
    try:
        act()
        reached.append(what)
    except OSError:
        pass
for path in ("/packages", "/packages/sandboxes", "/packages/staging", "/packages/locks", "/packages/used",
             "/usr/local/bin", "/opt/venv/bin"):
    attempt("write " + path, lambda: open(path + "/x", "w"))
    attempt("rename " + path, lambda: os.rename(path, path + "x"))
for path in ("/packages/sandboxes", "/packages/staging"):
    attempt("list " + path, lambda: os.listdir(path))
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) != os.getpid():
        attempt("fd 1 of " + pid, lambda: os.open("/proc/" + pid + "/fd/1", os.O_WRONLY) if pid == "1" else open("/x/"))
        attempt("mem of " + pid, lambda: open("/proc/" + pid + "/mem", "r+b") if pid == "1" else open("/x/"))
    try:
        if SECRET.encode() in open("/proc/" + pid + "/environ", "rb").read() + open(
            "/proc/" + pid + "/cmdline", "rb"
        ).read():
            reached.append("credentials of " + pid)
    except OSError:
        pass
for folder, _, names in os.walk("/packages"):
    for name in names:
        path = os.path.join(folder, name)
        if name == "honest.py":
            attempt("change " + path, lambda: open(path, "a"))
            attempt("chmod " + path, lambda: os.chmod(path, 0o666))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import time
        for number in range(3, 64):
            try:
                os.close(number)
            except OSError:
                pass
        time.sleep(10_000)
    os._exit(0)
"""


def probing_source(folder: Path, secret: str) -> None:
    """A source distribution ``prober``, whose module says what its build has reached, and which leaves a daemon."""
    plain = make_source(folder, "prober")
    with tarfile.open(plain) as archive:
        members = {
            member.name: file.read().decode()
            for member in archive.getmembers()
            if (file := archive.extractfile(member)) is not None
        }
    name = next(name for name in members if name.endswith("/backend.py"))
    found = "BUILT_BY = {os.getuid()}\\nREACHED = {reached!r}"
    members[name] = f"SECRET = {secret!r}\n{REACH}\n" + members[name].replace("BUILT_BY = {os.getuid()}", found)
    with tarfile.open(plain, "w:gz") as archive:
        for member, content in members.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(content.encode())
            archive.addfile(entry, BytesIO(content.encode()))


async def test_what_a_build_reaches(module_image: str, api: APIClient, tmp_path: Path) -> None:
    trap = Trap(api)
    secret = "pa55-of-the-index"
    make_wheel(tmp_path / "simple" / "honest", "honest", "1.0")
    probing_source(tmp_path / "simple" / "prober", secret)
    write_source(tmp_path / "simple" / "evil", "evil", trap.payload)
    settings = Settings(safety="off", preload=(), image=module_image, packages_build=True)
    with serve_index(tmp_path, api, credentials=f"someone:{secret}") as url:
        network = NetworkSettings(index_url=url)
        async with open_sandbox(settings, network) as sandbox, open_sandbox(settings, network) as other:
            await other.install("honest")
            await sandbox.install("prober")
            assert await text_of(sandbox, "import prober; prober.REACHED") == "[]\n"
            daemons = "for p in /proc/[0-9]*; do cat $p/cmdline 2>/dev/null | tr '\\0' ' '; echo; done"
            for container in containers_of(api, os.getpid()):
                made = api.exec_create(container, ["sh", "-c", daemons])
                assert "backend" not in api.exec_start(made["Id"]).decode()
            assert (await sandbox.install("honest")).packages == (("honest", "1.0"),)
            with contextlib.suppress(InstallError):
                await sandbox.install("evil")
            assert trap.sprang(), "what the trap is for can be noticed"
            trap.close()
            assert await text_of(other, "import honest; honest.VERSION") == "'1.0'\n"
