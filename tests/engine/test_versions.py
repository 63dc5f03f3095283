"""Packages in other versions than those of the image, or than the newest: from an index of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import anyio
import pytest
from docker import APIClient

from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.errors import InstallError
from mcp_agentrun.packages.installer import Installed
from mcp_agentrun.sandbox import AsyncSandbox, Result
from mcp_agentrun.server.mcp.render import install_answer, run_answer
from mcp_agentrun.settings import Settings
from tests.support.clients import text_of as text_of_answer
from tests.support.local_index import make_source, make_wheel, serve_index
from tests.support.sandboxes import open_sandbox, text_of

pytestmark = pytest.mark.anyio

RESET = "reset_sandbox(keep_packages=True, keep_files=True)"
LOADED = "import sys; print({'numpy', 'cycler'} & set(sys.modules))"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, api: APIClient) -> Iterator[str]:
    root = tmp_path_factory.mktemp("index")
    simple = root / "simple"
    for version in ("0.9", "0.11", "0.12.0", "0.12.1"):
        make_wheel(simple / "cycler", "cycler", version)
    make_wheel(simple / "matplotlib", "matplotlib", "3.0", needs=("cycler>=0.9",))
    make_wheel(simple / "rich", "rich")
    make_wheel(simple / "tqdm", "tqdm")
    make_wheel(simple / "old-cycler", "old-cycler", needs=("cycler<0.12.1",))
    make_wheel(simple / "sktime", "sktime", needs=("cycler<0.12.1",))
    for version, needs in (("1.0", ()), ("2.0", ("cycler<0.12.1",)), ("3.0", ("cycler<0.1",))):
        make_wheel(simple / "climbs", "climbs", version, needs=needs)
    make_wheel(simple / "sourced", "sourced", "1.0")
    make_source(simple / "sourced", "sourced", "2.0")
    make_wheel(simple / "early", "early", "1.0")
    make_source(simple / "early", "early", "2.0b1")
    make_wheel(simple / "early-wheel", "early-wheel", "1.0")
    make_wheel(simple / "early-wheel", "early-wheel", "2.0b1")
    with serve_index(root, api) as url:
        yield url


@pytest.fixture(scope="module")
async def network(index: str) -> NetworkSettings:
    return NetworkSettings(index_url=index)


@pytest.fixture(scope="module")
async def sandbox(runner_image: str, network: NetworkSettings, anyio_backend: str) -> AsyncIterator[AsyncSandbox]:
    async with open_sandbox(Settings(safety="off"), network) as sandbox:
        yield sandbox


async def crash(sandbox: AsyncSandbox) -> Result:
    return await sandbox.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


def said(installed: Installed) -> str:
    return text_of_answer(install_answer(installed))


async def test_a_version_holds_at_once_where_nothing_has_run(sandbox: AsyncSandbox) -> None:
    await sandbox.reset()
    installed = await sandbox.install("cycler==0.11")
    assert (installed.packages, installed.needs_reset) == ((("cycler", "0.11"),), ())
    assert installed.changed[0][::2] == ("cycler", "0.11") and "ready to import" in said(installed)
    assert await text_of(sandbox, LOADED) == "set()\n", "a worker from before the import of the data packages"
    assert await text_of(sandbox, "import cycler; kept = [cycler.VERSION]; kept") == "['0.11']\n"
    assert (await crash(sandbox)).state == "restored"
    assert await text_of(sandbox, "import importlib; importlib.reload(cycler); kept + [cycler.VERSION]") == (
        "['0.11', '0.11']\n"
    )
    code = "import subprocess, sys; _ = subprocess.run([sys.executable, '-c', 'import cycler; print(cycler.VERSION)'])"
    assert await text_of(sandbox, code) == "0.11\n", "in other processes, too"


async def test_variables_are_kept_until_a_reset(sandbox: AsyncSandbox) -> None:
    await sandbox.reset()
    await text_of(sandbox, "import cycler, pandas; kept = 41; open('kept.txt', 'w').close()")
    installed = await sandbox.install("cycler==0.11", "rich")
    assert (
        installed.needs_reset == ("cycler",) and RESET in said(installed) and "ready to import" not in said(installed)
    )
    assert await text_of(sandbox, "import cycler; print(hasattr(cycler, 'VERSION'), kept)") == "False 41\n"
    missing = await sandbox.run("import rich")
    assert missing.advice is not None and RESET in missing.advice
    again = await sandbox.install("rich")
    assert again.satisfied == (("rich", "1.0"),) and RESET in said(again)
    assert await text_of(sandbox, "import pandas; kept") == "41\n"
    await sandbox.reset(keep_packages=True, keep_files=True)
    assert await text_of(sandbox, LOADED) == "set()\n"
    assert await text_of(sandbox, "import cycler, rich, os; cycler.VERSION, os.listdir()") == "('0.11', ['kept.txt'])\n"
    back = await sandbox.install("cycler==0.12.1")
    assert back.needs_reset == ("cycler",), "of the image again"
    await sandbox.reset()
    assert "numpy" in await text_of(sandbox, "import pandas\n" + LOADED), "preloaded, as ever"
    assert await text_of(sandbox, "import cycler; hasattr(cycler, 'VERSION')") == "False\n"


async def test_what_waits_takes_effect_when_the_variables_are_lost_anyway(sandbox: AsyncSandbox) -> None:
    await sandbox.reset()
    await text_of(sandbox, "import matplotlib.pyplot")
    assert (await sandbox.install("cycler==0.11")).needs_reset == ("cycler",)
    sandbox.container.abandon(sandbox.container.starts)
    await sandbox.ready()
    assert await text_of(sandbox, "import cycler; cycler.VERSION") == "'0.11'\n"
    await sandbox.reset()


async def test_sessions_have_different_versions_at_the_same_time(
    sandbox: AsyncSandbox, network: NetworkSettings, runner_image: str
) -> None:
    await sandbox.reset()
    await sandbox.install("cycler==0.11")
    async with open_sandbox(Settings(safety="off"), network) as other:
        await other.install("cycler==0.12.0")
        for version, each in (("0.11", sandbox), ("0.12.0", other)):
            await text_of(each, "import cycler; x = cycler.VERSION")
            await crash(each)
            assert await text_of(each, "x, cycler.VERSION") == f"({version!r}, {version!r})\n"


async def test_an_import_installs_and_replaces_before_anything_has_run(sandbox: AsyncSandbox) -> None:
    await sandbox.reset()
    result = await sandbox.run("import sktime, cycler; print(cycler.VERSION)")
    assert result.output.text() == "0.12.0\n", result
    await sandbox.reset()
    await text_of(sandbox, "import matplotlib.pyplot, cycler; x = 1")
    result = await sandbox.run("import sktime")
    assert result.outcome == "error" and result.installed is not None and result.installed.needs_reset == ("cycler",)
    text = text_of_answer(run_answer(result, handle=None, new=False))
    assert RESET in text and "install_package" not in text
    await sandbox.reset(keep_packages=True, keep_files=True)
    assert await text_of(sandbox, "import sktime, cycler; cycler.VERSION") == "'0.12.0'\n"


async def test_what_does_not_go_with_a_version_is_resolved_anew(sandbox: AsyncSandbox) -> None:
    await sandbox.reset()
    installed = await sandbox.install("cycler==0.9")  # the image's matplotlib needs at least 0.10
    assert installed.packages == (("cycler", "0.9"), ("matplotlib", "3.0"))
    assert await text_of(sandbox, "import matplotlib; matplotlib.VERSION") == "'3.0'\n"


async def test_an_old_version_is_explained(sandbox: AsyncSandbox) -> None:
    await sandbox.reset()
    installed = await sandbox.install("climbs")
    assert ("climbs", "2.0") in installed.packages
    assert "climbs 2.0 is not the newest, which is 3.0. It is held back: Because " in said(installed)
    assert "depends on cycler<0.1" in said(installed) and "you require climbs==" not in said(installed)
    await sandbox.reset()
    installed = await sandbox.install("sourced")
    assert installed.packages == (("sourced", "1.0"),)
    assert "sourced 1.0 is not the newest" in said(installed) and "no usable wheels" in said(installed)
    for newest in ("rich", "climbs<3", "climbs==1.0", "early", "early-wheel"):
        await sandbox.reset()
        assert not (await sandbox.install(newest)).notes


async def test_a_version_without_a_wheel_is_explained(sandbox: AsyncSandbox) -> None:
    await sandbox.reset()
    for wanted, name, versions in (
        ("sourced>=2", "sourced", "1.0 to 1.0"),
        ("cycler<0.5", "cycler", "0.9 to 0.12.1"),
        ("climbs==7", "climbs", "1.0 to 3.0"),
    ):
        with pytest.raises(InstallError, match=rf"No wheel of {name} for Python 3\.\d+ fits .*; there are {versions}"):
            await sandbox.install("rich", wanted)


async def test_nothing_is_remembered_of_the_packages_before_a_reset(sandbox: AsyncSandbox) -> None:
    await sandbox.reset()
    assert (await sandbox.run("import tqdm")).installed is not None
    await text_of(sandbox, "import numpy")
    await sandbox.reset()
    await sandbox.install("rich")
    assert (await sandbox.run("import tqdm; print(tqdm.VERSION)")).installed is not None
    assert (await sandbox.run("import rich, tqdm")).outcome == "ok"


async def test_sessions_that_replace_nothing_stay_preloaded(sandbox: AsyncSandbox) -> None:
    await sandbox.reset()
    await sandbox.install("rich")
    assert await text_of(sandbox, "import pandas\n" + LOADED) != "set()\n"
    with anyio.fail_after(100):
        await sandbox.reset(keep_packages=True)
        assert "numpy" in await text_of(sandbox, "import pandas, rich\n" + LOADED)
