"""Modules of CPython's own test suite through ``run``, and by ``python -m test`` in the same container.

Run it with ``make cpython-tests`` (and ``CPYTHON=`` for other modules). The tests come from two of Debian's packages,
which a container of the runner image fetches: the image lacks them, whether on Debian or on python:3.13-slim.
"""

from __future__ import annotations

import io
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import anyio
import anyio.to_thread
from docker import APIClient

from mcp_agentrun.engine.docker.discovery import connect
from mcp_agentrun.errors import FileError
from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.settings import Settings
from tests.support.containers import containers_of_ours
from tests.support.sandboxes import open_engine, sandbox_on

MODULES = ("test_textwrap", "test_fractions", "test_thread", "test_subprocess", "test_pickle")
"""Text, numbers, threads, subprocesses, pickling."""

FOLDER = "cpython"
SECONDS = 900
FETCH = """
set -e
cd /tmp
mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial
apt-get -qq -o APT::Sandbox::User=root update
apt-get -qq -o APT::Sandbox::User=root download libpython3.13-testsuite libpython3.13-stdlib
for package in *.deb; do dpkg -x $package unpacked; done
mv unpacked/usr/lib/python3.13/test /tmp/test
ls *.deb
"""
RUN = """
import os, sys
os.environ["PYTHONPATH"] = "/workspace/{folder}"
sys.path.insert(0, "/workspace/{folder}")
sys.argv = ["test", "--junit-xml=/workspace/ours.xml", "{module}"]
from test.libregrtest.main import main
main()
"""

Results = dict[str, str]
"""By test, how it ended: ``passed``, ``skipped: why``, ``failure`` or ``error``."""


def fetch(api: APIClient, image: str, folder: Path) -> str:
    """Put the package `test` into *folder*; returns the name of the package that it is from."""
    container = api.create_container(image, entrypoint=["sh", "-c", FETCH], user="0")["Id"]
    try:
        api.start(container)
        status = api.wait(container)["StatusCode"]
        said = api.logs(container).decode("utf-8", "replace")
        if status:
            sys.exit(f"the tests can't be fetched:\n{said}")
        parts, _ = api.get_archive(container, "/tmp/test")
        with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as archive:
            archive.extractall(folder, filter="data")
    finally:
        api.remove_container(container, force=True)
    for path in (folder.parent, folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)  # for the sandbox's user
    return said.split()[-1]


def by_python(api: APIClient, container: str, module: str) -> int:
    """Run *module* as ``python -m test`` does, as the user of *container*; returns the exit code."""
    command = ["/opt/venv/bin/python", "-m", "test", "--junit-xml=/workspace/theirs.xml", module]
    environment = {"PYTHONPATH": f"/workspace/{FOLDER}"}
    execution = api.exec_create(container, command, workdir="/workspace", environment=environment)["Id"]
    api.exec_start(execution)
    return api.exec_inspect(execution)["ExitCode"]


def results(report: bytes) -> Results:
    found: Results = {}
    for case in ET.fromstring(report).iter("testcase"):
        how = next((part for part in case if part.tag in ("skipped", "failure", "error")), None)
        ended = "passed" if how is None else how.tag
        if how is not None and how.tag == "skipped":
            ended += f": {how.text}"
        found[f"{case.get('name')}"] = ended
    return found


async def both_ways(api: APIClient, sandbox: AsyncSandbox, module: str) -> bool:
    """Whether *module* has the same result both ways."""
    started = time.perf_counter()
    run = await sandbox.run(RUN.format(folder=FOLDER, module=module), timeout=SECONDS)
    ours_took = time.perf_counter() - started
    if run.exit_code is None or not any(file.path == "ours.xml" for file in run.files):
        print(f"{module}: {run.outcome}\n{run.output.text(4000)}")
        return False
    ours = results(await sandbox.files.read("ours.xml"))
    await sandbox.reset(keep_files=True)  # or what the tests have left would need memory while they run again
    (container,) = containers_of_ours(api)
    started = time.perf_counter()
    exit_code = await anyio.to_thread.run_sync(by_python, api, container, module)
    theirs_took = time.perf_counter() - started
    try:
        theirs = results(await sandbox.files.read("theirs.xml"))
    except FileError as error:
        print(f"{module}: {error}; exit code {exit_code}")
        return False
    differences = [
        f"  {name}: {ours.get(name, 'missing')}, by python: {theirs.get(name, 'missing')}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
    is_same = not differences and run.exit_code == exit_code and bool(ours)
    counts = ", ".join(
        f"{n} {how}" for how, n in sorted(Counter(how.partition(":")[0] for how in ours.values()).items())
    )
    print(
        f"{module:<18} {'the same' if is_same else 'DIFFERENT'}: {counts}; exit code {run.exit_code}, by python "
        f"{exit_code}; {ours_took:.1f} s, by python {theirs_took:.1f} s",
        *differences,
        sep="\n",
        flush=True,
    )
    if not is_same:
        print(run.output.text(6000))
    return is_same


async def main() -> int:
    modules = sys.argv[1:] or MODULES
    api, tried = connect()
    if api is None:
        sys.exit(f"no container engine: {tried}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / FOLDER
        async with open_engine() as engine:
            image = await engine.ensure_image(lambda stage: print(stage, file=sys.stderr))
            print(await anyio.to_thread.run_sync(fetch, api, image, folder))
            settings = Settings(
                safety="off", auto_install="off", memory=2 << 30, max_timeout=SECONDS, data=(str(folder),)
            )
            good = True
            for module in modules:
                async with sandbox_on(engine, settings) as sandbox:
                    good &= await both_ways(api, sandbox, module)
    api.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(anyio.run(main))
