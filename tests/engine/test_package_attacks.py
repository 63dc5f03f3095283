"""What hostile wheels and hostile code do about packages: nothing beyond their own sandbox."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

import pytest
from docker import APIClient

from mcp_agentrun.engine import LABEL_SANDBOX
from mcp_agentrun.errors import InstallError
from mcp_agentrun.sandbox import AsyncSandbox
from tests.support.containers import containers_of
from tests.support.engines import ENGINE
from tests.support.local_index import make_wheel, serve_index
from tests.support.sandboxes import installing, text_of

pytestmark = pytest.mark.anyio

CLIMBERS = {
    "climber": ("../../../../climbed.py", "../climbed.py"),
    "climbera": ("/packages/climbed.py", "/tmp/climbed.py"),
    "climberb": ("climberb-1.0.data/data/../../../../climbed.py", "climberb-1.0.data/purelib/../../../climbed.py"),
    "climberc": ("..\\..\\climbed.py", "climberc/../../../climbed.py"),
}
"""Wheels by the names of members that would be outside of their folder."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("index")
    simple = root / "simple"
    make_wheel(simple / "apkg", "apkg", "1.0")
    make_wheel(simple / "apkg", "apkg", "2.0")
    make_wheel(simple / "tabulate", "tabulate")
    make_wheel(simple / "bulky", "bulky", files={"bulky.bin": os.urandom(1 << 20)})
    for name, files in CLIMBERS.items():
        make_wheel(simple / name, name, files=dict.fromkeys(files, "climbed"))
    make_wheel(
        simple / "symlinked",
        "symlinked",
        links={"linked": "/packages/lanes", "linked_too": "../../../../tmp", "linked_file": "/etc/passwd"},
        files={"linked/climbed.py": "climbed", "linked_too/climbed.py": "climbed"},
    )
    make_wheel(
        simple / "scripted",
        "scripted",
        files={
            "scripted-1.0.data/scripts/uv": "#!python\nclimbed\n",
            "scripted-1.0.data/scripts/sh": "#!python\nclimbed\n",
            "sitecustomize.py": "open('/workspace/pth', 'w').write('ran')\n",
        },
    )
    make_wheel(
        simple / "pather", "pather", files={"pather.pth": "import os; open('/workspace/pth', 'w').write('ran')\n"}
    )
    return root


@pytest.mark.parametrize("name", [*CLIMBERS, "symlinked"])
async def test_a_wheel_that_climbs_out_of_its_folder(sandbox: AsyncSandbox, api: APIClient, name: str) -> None:
    await sandbox.reset()
    with contextlib.suppress(InstallError):
        installed = await sandbox.install(name)
        assert await text_of(sandbox, f"import {name} as it; print(it.VERSION)") == "1.0\n"
        assert installed.packages == ((name, "1.0"),)
    for container in containers_of(api, os.getpid(), "installer"):
        # Whatever it has left, and where: nothing outside of the folders of sandboxes and of uv's unpacked archives.
        searched = [
            "find",
            "/packages",
            "/tmp",
            "/workspace",
            "-name",
            "climbed*",
            "-o",
            "-type",
            "l",
            "-name",
            "linked*",
        ]
        found = api.exec_start(api.exec_create(container, searched)["Id"]).decode()
        expected = r"/packages/(sandboxes/[0-9a-f]{32}/[0-9a-f]{16}/|lanes/uv\d/cache/archive-v\d+/[^/]+/)"
        for path in found.splitlines():
            assert re.match(expected, path), path
    result = await sandbox.run(
        "import os\nfor folder, _, names in os.walk('/'):\n"
        "    if not folder.startswith('/proc') and 'climbed.py' in names: print(folder)"
    )
    mine = (await sandbox.run("import sys; print(*sys.path)")).output.text().split()
    assert all(any(line.startswith(place) for place in mine) for line in result.output.text().splitlines())


BOMBS = {
    "nested parts": "Content-Type: multipart/mixed; boundary=b0\n\n"
    + "".join(f"--b{n}\nContent-Type: multipart/mixed; boundary=b{n + 1}\n\n" for n in range(1500)),
    "folded lines": "Summary: x\n" + " folded\n" * 200_000,
    "nested marker": "Requires-Dist: apkg; " + "(" * 20_000 + "python_version > '3'" + ")" * 20_000 + "\n",
    "many requirements": "Requires-Dist: apkg\n" * 100_000,
    "no text": "Name: \0\ufffd\n" * 1000,
}


@pytest.mark.parametrize(
    "member", ["bombed-1.0.dist-info/METADATA", "bombed.egg-info/PKG-INFO", "x.dist-info/METADATA"]
)
@pytest.mark.parametrize("bomb", BOMBS)
async def test_metadata_that_is_hard_to_parse(sandbox: AsyncSandbox, root: Path, bomb: str, member: str) -> None:
    """It is installed or refused, and nothing else suffers: only uv parses what a package has."""
    about = "Metadata-Version: 2.1\nName: bombed\nVersion: 1.0\n" if "bombed-" in member else ""
    make_wheel(root / "simple" / "bombed", "bombed", files={member: about + BOMBS[bomb]})
    await sandbox.reset()
    with contextlib.suppress(InstallError):
        await sandbox.install("bombed")
    assert (await sandbox.install("tabulate")).packages == (("tabulate", "1.0"),)


async def test_wheels_that_want_to_be_executed(sandbox: AsyncSandbox, api: APIClient) -> None:
    """``.pth`` files, scripts with names that the installer calls, and ``sitecustomize``: none runs by being there."""
    await sandbox.reset()
    await sandbox.install("pather", "scripted")
    seen = "import os, pather, scripted; print(os.path.exists('/workspace/pth'), pather.VERSION, scripted.VERSION)"
    assert await text_of(sandbox, seen) == "False 1.0 1.0\n"
    await sandbox.reset(keep_packages=True)
    assert await text_of(sandbox, seen) == "False 1.0 1.0\n"
    assert (await sandbox.install("apkg<2")).packages == (("apkg", "1.0"),), "the installer's own tools are its own"
    for container in containers_of(api, os.getpid(), "installer"):
        made = api.exec_create(container, ["find", "/workspace", "/tmp", "-name", "pth"])
        assert api.exec_start(made["Id"]) == b""


async def test_nothing_is_left_for_the_next_session_or_the_installer(module_image: str, index: str) -> None:
    """One session leaves what it can where others might look; another one, and the installer, go on as if not."""
    poison = """
import contextlib, glob, os, sys
places = ['/tmp', '/dev/shm', '/workspace', '/run/agentrun', '/packages', *glob.glob('/packages/*'), os.environ['HOME'],
          os.environ['HOME'] + '/.config/uv', os.environ['HOME'] + '/.cache', sys.prefix, *filter(None, sys.path)]
left = []
for place in places:
    for name, content in (
        ('apkg.py', 'VERSION = "poisoned"'), ('sitecustomize.py', 'raise SystemExit'), ('poison.pth', 'import os'),
        ('uv.toml', '[[index]]\\nurl = "http://192.0.2.1/"'), ('pip.conf', '[global]'),
    ):
        with contextlib.suppress(OSError):
            os.makedirs(place, exist_ok=True)
            with open(os.path.join(place, name), 'w') as file:
                file.write(content)
            left.append(place)
print(sorted({place for place in left if place.startswith(('/packages', sys.prefix))}), len(left) > 0)
"""
    async with (
        installing(index, image=module_image) as one,
        installing(index, image=module_image) as other,
    ):
        await one.install("apkg<2")
        assert await text_of(one, poison) == "[] True\n"
        assert (await one.install("tabulate")).packages == (("tabulate", "1.0"),)
        await other.install("apkg<2")
        assert await text_of(other, "import apkg; apkg.VERSION") == "'1.0'\n"
        await one.reset()
        assert (await one.run("import apkg")).outcome == "error"
        await one.install("apkg<2")
        assert await text_of(one, "import apkg; apkg.VERSION") == "'1.0'\n"


async def test_user_code_reaches_neither_folder_nor_cache(sandbox: AsyncSandbox) -> None:
    await sandbox.reset()
    await sandbox.install("apkg")
    code = """
import apkg, os, errno
folder = os.path.dirname(apkg.__file__)
def refused(act):
    try:
        act()
    except OSError as error:
        return error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
    return False
print([refused(act) for act in (
    lambda: open(folder + '/x.py', 'w'),
    lambda: open(apkg.__file__, 'a'),
    lambda: os.unlink(apkg.__file__),
    lambda: os.chmod(apkg.__file__, 0o777),
    lambda: os.rename(folder, folder + 'x'),
    lambda: os.mkdir('/packages/sandboxes/' + 'f' * 32),
)])"""
    assert await text_of(sandbox, code) == f"{[True] * 6}\n"
    if ENGINE == "kubernetes":  # where nobody else has the volume
        own = "os.listdir('/packages'), os.listdir('/packages/sandboxes')"
        assert await text_of(sandbox, own) == f"{(['sandboxes'], [sandbox.id])}\n"
    else:
        others = [
            f"refused(lambda: os.listdir('/packages/{name}'))" for name in ("sandboxes", "lanes", "staging", "used")
        ]
        assert await text_of(sandbox, f"[{', '.join(others)}]") == f"{[True] * 4}\n"


OF_INSTALLER = ("list", "list what is known", "write there")
"""Of the following attempts, those that aim at folders that a sandbox does not have if its volume is its own."""

ATTACK = """
import json, os, socket, sys, threading, apkg
mine = os.path.dirname(apkg.__file__)
root = os.path.dirname(mine)
def attempt():
    reached, refused = [], {}
    with open('/workspace/fifo', 'w') as told:  # which is opened at the other end while the download goes on
        for _ in range(20):
            for what, act in {
                'network': lambda: socket.create_connection((HOST, PORT), timeout=1),
                'list': lambda: [os.listdir(f'/packages/{name}') for name in ('staging',)],
                'list the cache': lambda: os.listdir('/packages/lanes'),
                'list sandboxes': lambda: os.listdir('/packages/sandboxes'),
                'list what is known': lambda: os.listdir('/packages/locks'),
                'list mine': lambda: os.listdir(root),
                'the next': lambda: os.mkdir(root + '/2'),
                'write': lambda: open('/packages/x', 'w'),
                'write there': lambda: open('/packages/staging/x', 'w'),
                'write the cache': lambda: open('/packages/lanes/x', 'w'),
                'write mine': lambda: open(apkg.__file__, 'r+'),
                'link mine': lambda: os.link(apkg.__file__, mine + '/linked.py'),
                'link into the cache': lambda: os.symlink('/workspace', '/packages/lanes/x'),
                'rename mine': lambda: os.rename(mine, root + '/9'),
                'times of mine': lambda: os.utime(apkg.__file__),
                'through PID 1': lambda: os.listdir('/proc/1/root/packages/lanes'),
            }.items():
                try:
                    act()
                    reached.append(what)
                except OSError as error:
                    refused[what] = error.strerror or str(error)
        json.dump([reached, refused], told)
os.mkfifo('/workspace/fifo')
threading.Thread(target=attempt, daemon=True).start()
"""


async def test_user_code_that_tries_while_an_installation_runs(module_image: str, root: Path, api: APIClient) -> None:
    said: list[bytes] = []

    def on_half(name: str) -> None:
        if name.startswith("bulky"):
            label = f"{LABEL_SANDBOX}={sandbox.id}"
            runner = api.containers(filters={"label": label})[0]["Id"]
            said.append(api.exec_start(api.exec_create(runner, ["cat", "/workspace/fifo"])["Id"]))

    with serve_index(root, api, is_modern=True, on_half=on_half) as url:
        host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
        async with installing(url, image=module_image) as sandbox:
            await sandbox.install("apkg")
            await text_of(sandbox, ATTACK.replace("HOST", repr(host)).replace("PORT", port))
            assert ("bulky", "1.0") in (await sandbox.install("bulky")).packages
            assert await text_of(sandbox, "import bulky; print(bulky.VERSION, apkg.VERSION)") == "1.0 2.0\n"
    reached, refused = json.loads(said[0])
    assert len({*refused, *reached}) == 16
    network = refused.pop("network")
    if ENGINE == "kubernetes":  # where the volume is the sandbox's own, and the network's plugin says how it refuses
        assert set(reached) == {"list mine", "list sandboxes"}
        absent = {what for what, why in refused.items() if why == "No such file or directory"}
        assert absent == {what for what in refused if what.endswith("cache") or what in OF_INSTALLER}
        refused = {what: why for what, why in refused.items() if what not in absent}
    else:
        assert (reached, network) == ([], "Network is unreachable")
    assert set(refused.values()) <= {"Permission denied", "Read-only file system", "Operation not permitted"}, refused
