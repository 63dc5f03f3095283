"""The users inside the installer: what each may read and write, and what code gains that runs as one of them.

No package executes code there, unless the operator allows builds; this is about the day on which one does all the same.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from docker import APIClient

from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.errors import InstallError
from mcp_agentrun.settings import Settings
from tests.support.containers import installer_of, installers_of
from tests.support.engines import ENGINE
from tests.support.local_index import PASSWORD, make_source, make_wheel, serve_index
from tests.support.sandboxes import installing, open_sandbox, text_of

pytestmark = pytest.mark.anyio

OWNER, LANE, OTHER_LANE, BUILDER, RELAY, SESSION = 10002, 10010, 10011, 10020, 10030, 30000
GROUPS = {OWNER: OWNER, SESSION: SESSION}

EVERYTHING = """
import json, os
found = []
for top in ("/packages", "/tmp", "/dev/shm"):
    for place, _, files in os.walk(top):
        found += [place, *(os.path.join(place, name) for name in files)]
print(json.dumps(found))
"""

WALK = """
import json, os
writable, listable, secrets = set(), set(), []
found = json.loads(EVERYTHING)  # names, which may be known, of what can't be listed
for place, folders, files in os.walk("/"):
    if place in ("/proc", "/sys"):
        folders.clear()
    else:
        found += [place, *(os.path.join(place, name) for name in files)]
for path in found:
    if os.path.isdir(path) and os.access(path, os.R_OK) and path.startswith(("/packages", "/tmp", "/dev/shm")):
        listable.add(path)
    if not os.path.islink(path) and os.access(path, os.W_OK) and (not path.startswith("/dev/") or "shm" in path):
        writable.add(path)
def uid_of(pid):
    return [line.split()[1] for line in open(f"/proc/{pid}/status") if line.startswith("Uid:")][0]
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "mem", "maps", "fd/0", "fd/1", "root/etc", "cwd"):
        path = f"/proc/{pid}/{name}"
        try:
            if name[:2] in ("fd", "ro", "cw"):
                os.stat(path)
            elif not open(path, "rb").read(1):  # of a process that is ending and has no memory, anyone can open it
                continue
        except OSError as error:
            if name != "mem" or error.errno != 5:  # unmapped, but open
                continue
        try:
            if int(uid_of(pid)) != os.getuid():  # asked last: what is being started becomes another user
                secrets.append(path)
        except OSError:
            pass
print(json.dumps([sorted(writable), sorted(listable), secrets]))
"""


def as_user(api: APIClient, container: str, uid: int, code: str) -> str:
    """What *code* prints that runs in *container* as *uid*."""
    command = ["/opt/venv/bin/python", "-I", "-c", code]
    made = api.exec_create(container, command, user=f"{uid}:{GROUPS.get(uid, 10003)}", workdir="/")
    said = api.exec_start(made["Id"]).decode()
    assert api.exec_inspect(made["Id"])["ExitCode"] == 0, said
    return said


def general(paths: list[str]) -> set[str]:
    """*paths*, with what is made up put as ``*`` and without what is below another one."""
    named = {"/tmp/*" + path[path.index("/made") :] if "/made" in path else path for path in paths}
    return {path for path in named if not any(path != other and path.startswith(other + "/") for other in named)}


WRITABLE = {
    LANE: {"/packages/lanes/uv0/cache", "/tmp/*/made"},
    OTHER_LANE: {"/packages/lanes/uv1/cache"},
    BUILDER: {"/packages/lanes/build/cache"},
    RELAY: set[str](),
    SESSION: set[str](),
}
"""Folders below which each user can write, while an installation runs in the first lane; see docs/security.md."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("index")
    for name in ("first", "second", "slow"):
        make_wheel(root / "simple" / name, name, files={f"{name}_data/x.bin": "x" * 100_000})
    return root


async def test_each_user_writes_its_own_and_nothing_else(
    runner_image: str,
    root: Path,
    api: APIClient,
    own_image: str,
) -> None:
    """During an installation, with the packages of two sessions there and every lane furnished."""
    found: list[tuple[int, set[str], list[str], list[str]]] = []

    def look(name: str) -> None:
        if name.startswith("slow"):
            for container in installers_of(api, own_image):
                everything = as_user(api, container, 0, EVERYTHING)
                for uid in WRITABLE:
                    walk = WALK.replace("EVERYTHING", repr(everything))
                    writable, listable, secrets = json.loads(as_user(api, container, uid, walk))
                    found.append((uid, general(writable), listable, secrets))

    with serve_index(root, api, on_half=look) as url:
        async with installing(url, image=own_image) as one, installing(url, image=own_image) as other:
            for sandbox in (one, other):
                await sandbox.install("first", "second")
            await one.install("slow")
    for uid, writable, listable, secrets in found:
        assert writable <= WRITABLE[uid], uid
        assert secrets == [], uid
        others = WRITABLE[LANE] if uid != LANE else {"/packages/lanes/uv1/cache", "/packages/lanes/build/cache"}
        for place in ("/packages/sandboxes", "/packages/staging", "/packages/locks", "/packages/used", *others):
            assert place not in listable, (uid, place)
    of_lane = [writable for uid, writable, _, _ in found if uid == LANE]
    assert set.union(*of_lane) == WRITABLE[LANE], "the walk sees what can be written"
    assert len(of_lane) >= 2, "in both containers"


EXPLOIT = """
import ctypes, glob, json, os, sys
done = []
def attempt(what, act):
    try:
        act()
        done.append(what)
    except OSError:
        pass
seen = [path for path in glob.glob("/packages/lanes/uv0/cache/archive-v0/*/*.py") if os.stat(path).st_uid == 10002]
assert seen
for path in seen:  # what has been taken over for a session
    attempt("write " + path, lambda: open(path, "r+"))
    attempt("chmod " + path, lambda: os.chmod(path, 0o666))
    attempt("link " + path, lambda: os.link(path, "/packages/lanes/uv0/cache/linked"))
folder = sys.argv[1] if len(sys.argv) > 1 else FOLDER
for name in ("first.py", "."):
    flags = os.O_RDWR if name != "." else os.O_RDWR | os.O_TMPFILE
    attempt("session " + name, lambda: os.open(f"{folder}/{name}", flags))
attempt("rename", lambda: os.rename(folder, folder + "x"))
attempt("beside the cache", lambda: os.mkdir("/packages/lanes/uv0/beside"))
attempt("open the lane", lambda: os.chmod("/packages/lanes/uv0", 0o777))
attempt("next", lambda: os.mkdir(os.path.dirname(folder) + "/9"))
attempt("kill", lambda: os.kill(1, 9))
attempt("stop", lambda: os.kill(1, 19))
attempt("root", lambda: os.setuid(0))
attempt("owner", lambda: os.setuid(10002))
attempt("other lane", lambda: os.setuid(10011))
print(json.dumps(done))
"""


async def test_what_is_installed_is_out_of_reach_for_who_has_fetched_it(
    runner_image: str,
    root: Path,
    api: APIClient,
    own_image: str,
) -> None:
    with serve_index(root, api) as url:
        async with installing(url, image=own_image) as sandbox:
            folder = (await sandbox.install("first")).folder
            before = await text_of(sandbox, "import first; print(first.VERSION, open(first.__file__).read())")
            code = EXPLOIT.replace("FOLDER", repr(f"/packages/{folder}"))
            assert json.loads(as_user(api, installer_of(api, own_image), LANE, code)) == []
            enter = "import os; print(os.access('/packages/lanes/uv0', os.F_OK))"
            assert as_user(api, installer_of(api, own_image), SESSION, enter) == "False\n"
            assert await text_of(sandbox, "print(first.VERSION, open(first.__file__).read())") == before
            assert (await sandbox.install("second")).packages == (("second", "1.0"),)


BACKEND = """
import glob, os, resource, time
found = []
if not 0 < resource.getrlimit(resource.RLIMIT_NPROC)[1] <= 256:
    found.append("processes for all of the container")
for name, value in os.environ.items():
    if SECRET in value or "someone" in value or "at-the-proxy" in value:
        found.append("environment")
for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
    try:
        if SECRET in open(path).read():
            found.append(path)
    except OSError:
        pass
for path in ("/packages/lanes/uv0", "/packages/sandboxes", "/packages/used"):
    try:
        os.listdir(path)
        found.append(path)
    except OSError:
        pass
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:  # a daemon that holds every descriptor open
            time.sleep(1000)
    os._exit(0)
"""


UIDS = """
import glob
for process in glob.glob("/proc/[0-9]*"):
    try:
        print(open(process + "/status").read().split("Uid:")[1].split()[0])
    except OSError:  # it has ended
        pass
"""


async def test_a_build_finds_no_credentials_and_leaves_no_daemon(
    runner_image: str,
    root: Path,
    api: APIClient,
    own_image: str,
) -> None:
    make_source(root / "simple" / "hostile", "hostile", setup=BACKEND.replace("SECRET", repr(PASSWORD)))
    with serve_index(root, api, credentials=f"someone:{PASSWORD}", is_modern=True) as url:
        proxied = NetworkSettings(index_url=url, proxies={"HTTPS_PROXY": "someone:at-the-proxy@192.0.2.1:3128"})
        async with open_sandbox(
            Settings(safety="off", preload=(), image=own_image, packages_build=True), proxied
        ) as sandbox:
            await sandbox.install("first")
            assert ("hostile", "1.0") in (await sandbox.install("hostile")).packages
            assert await text_of(sandbox, "import hostile; print(hostile.BUILT_BY, hostile.FOUND)") == "10020 []\n"
            uids = Counter(as_user(api, installer_of(api, own_image), SESSION, UIDS).split())
            assert uids.pop("0", 0) == int(ENGINE == "kubernetes"), "the relay"
            assert set(uids) == {str(OWNER), str(SESSION)}, "the daemon has ended"
            assert (await sandbox.install("second")).packages == (("second", "1.0"),)


async def test_a_hostile_server_s_package_changes_nothing_of_another_server_s(
    runner_image: str,
    root: Path,
    api: APIClient,
    own_image: str,
) -> None:
    """Both have the same volume and install the same; a package of one is made to overwrite what it can."""
    names = (
        "../../first.py",
        "/packages/sandboxes/first.py",
        "first.py",
        "first/__init__.py",
        "../first-1.0.dist-info/a",
    )
    make_wheel(root / "simple" / "overwriter", "overwriter", files=dict.fromkeys(names, "VERSION = 'overwritten'"))
    digest = (
        "import hashlib, os, sys\n"
        "place = next(path for path in sys.path if path.startswith('/packages'))\n"
        "for folder, _, names in sorted(os.walk(place)):\n"
        "    for name in sorted(names):\n"
        "        path = os.path.join(folder, name); state = os.stat(path)\n"
        "        print(path, oct(state.st_mode), state.st_uid, hashlib.sha256(open(path, 'rb').read()).hexdigest())\n"
    )
    with serve_index(root, api) as url:
        async with installing(url, image=own_image) as one, installing(url, image=own_image) as other:
            await other.install("first", "second")
            before = await text_of(other, digest)
            for _ in range(2):
                with contextlib.suppress(InstallError):
                    await one.install("first", "overwriter")
                await one.reset()
            code = EXPLOIT.replace("FOLDER", repr(before.partition("/first")[0]))
            for container in installers_of(api, own_image):
                assert json.loads(as_user(api, container, LANE, code)) == []
            assert await text_of(other, digest) == before
            await other.reset()
            await other.install("first")
            assert await text_of(other, "import first; first.VERSION") == "'1.0'\n"


async def test_a_slow_installation_holds_up_nobody_else(runner_image: str, root: Path, api: APIClient) -> None:
    """The file of the slow one stays half sent until the quick one is installed."""
    is_quick_there, is_slow_begun, is_slow_there = anyio.Event(), anyio.Event(), anyio.Event()

    def wait(name: str) -> None:
        if name.startswith("slow"):
            anyio.from_thread.run_sync(is_slow_begun.set, token=token)
            anyio.from_thread.run(wait_for, token=token)

    async def wait_for() -> None:
        with anyio.move_on_after(60):
            await is_quick_there.wait()

    token = anyio.lowlevel.current_token()
    with serve_index(root, api, on_half=wait) as url:
        async with installing(url) as one, anyio.create_task_group() as tasks:

            async def install_slowly() -> None:
                await one.install("slow")
                is_slow_there.set()

            tasks.start_soon(install_slowly)
            await is_slow_begun.wait()
            async with installing(url) as other:
                assert (await other.install("first")).packages == (("first", "1.0"),)
            assert not is_slow_there.is_set()
            is_quick_there.set()
