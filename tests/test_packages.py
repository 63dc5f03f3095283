"""Packages from an index of the test's own: what is refused, what is installed, and what hostile wheels can do."""

from __future__ import annotations

import contextlib
import re
import shutil
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from docker import APIClient

from mcp_agentrun.engine.docker import DockerEngine
from mcp_agentrun.engine.image import ImageRecipe
from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.errors import InstallError, InvalidRequestError
from mcp_agentrun.packages.installer import Installer
from mcp_agentrun.sandbox import Result, Sandbox
from mcp_agentrun.settings import Settings
from tests.conftest import open_sandbox
from tests.local_index import gateway_of, make_wheel, serve_index, serve_proxy

pytestmark = pytest.mark.anyio

PASSWORD = "s3cret-of-the-index"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, api: APIClient) -> Iterator[str]:
    root = tmp_path_factory.mktemp("index")
    simple = root / "simple"
    make_wheel(simple / "apkg", "apkg", "1.0")
    make_wheel(simple / "apkg", "apkg", "2.0")
    make_wheel(simple / "needs-bad", "needs-bad", needs=("badpkg",))
    make_wheel(simple / "badpkg", "badpkg")
    make_wheel(simple / "wants-one", "wants-one", needs=("apkg==1.0",))
    make_wheel(simple / "wants-two", "wants-two", needs=("apkg==2.0",))
    make_wheel(simple / "tabulate", "tabulate")
    make_wheel(simple / "heavy", "heavy", files={"heavy.bin": "\0" * (40 << 20)})
    make_wheel(simple / "reqeusts", "reqeusts")
    make_wheel(simple / "climber", "climber", files={"../../../../climbed.py": "", "../climbed.py": ""})
    make_wheel(
        simple / "pather", "pather", files={"pather.pth": "import os; open('/workspace/pth', 'w').write('ran')\n"}
    )
    (simple / "sourced").mkdir()
    (root / "setup.py").write_text("raise SystemExit('executed')")
    with tarfile.open(simple / "sourced" / "sourced-1.0.tar.gz", "w:gz") as archive:
        archive.add(root / "setup.py", "sourced-1.0/setup.py")
    (root / "setup.py").unlink()
    with serve_index(root, api, credentials=f"someone:{PASSWORD}") as url:
        yield url


@pytest.fixture(scope="module")
async def sandbox(runner_image: str, index: str, anyio_backend: str) -> AsyncIterator[Sandbox]:
    settings = Settings(
        safety="off", packages_deny=("badpkg", "apkg>2"), packages_size=32 << 20, packages_allow=("*", "allowed")
    )
    async with open_sandbox(settings, NetworkSettings(index_url=index)) as sandbox:
        yield sandbox


async def text_of(sandbox: Sandbox, code: str) -> str:
    result: Result = await sandbox.run(code)
    assert result.outcome == "ok", result.output.text()
    return result.output.text()


async def test_versions_change_and_variables_stay(sandbox: Sandbox) -> None:
    await sandbox.reset()
    await text_of(sandbox, "kept = 41")
    told: list[str] = []
    installed = await sandbox.install("apkg<2", report=told.append)
    assert installed.packages == (("apkg", "1.0"),) and not installed.changed
    assert any(text.startswith("resolving") for text in told)
    assert await text_of(sandbox, "import apkg; print(apkg.VERSION, kept)") == "1.0 41\n"
    before = await text_of(sandbox, "print(apkg.__file__)")
    again = await sandbox.install("apkg")
    assert again.satisfied == (("apkg", "1.0"),) and not again.packages
    newer = await sandbox.install("apkg==2.0")
    assert newer.changed == (("apkg", "1.0", "2.0"),)
    assert await text_of(sandbox, f"print(open({before.strip()!r}).read())") == "VERSION = '1.0'\n\n"
    await sandbox.reset(keep_packages=True, keep_files=True)
    assert await text_of(sandbox, "import apkg; print(apkg.VERSION)") == "2.0\n"


async def test_satisfied_without_an_installer(sandbox: Sandbox) -> None:
    installed = await sandbox.install(["numpy>1", "pandas"])
    assert [name for name, _ in installed.satisfied] == ["numpy", "pandas"]
    assert not installed.packages


async def test_a_denial_holds_for_dependencies(sandbox: Sandbox) -> None:
    with pytest.raises(InvalidRequestError, match="denied by this server's rule 'badpkg'"):
        await sandbox.install("BadPkg")
    with pytest.raises(InstallError, match=r"badpkg 1\.0, which what you asked for depends on, is denied"):
        await sandbox.install("needs-bad")
    assert (await sandbox.run("import needs_bad")).outcome == "error"


async def test_refusals_are_the_resolver_s_own_without_plumbing_or_credentials(sandbox: Sandbox) -> None:
    await sandbox.reset()
    with pytest.raises(InstallError, match="wants-one") as conflict:
        await sandbox.install(["wants-one", "wants-two"])
    with pytest.raises(InstallError, match="no-such-thing") as absent:
        await sandbox.install("no-such-thing")
    with pytest.raises(InstallError, match="sourced") as source:
        await sandbox.install("sourced")
    assert "executed" not in str(source.value)
    for error in (conflict, absent, source):
        text = str(error.value)
        assert PASSWORD not in text and "someone" not in text
        assert "/packages" not in text and "staging" not in text
        assert not re.search("[\u2500-\u257f\u00d7]", text)


async def test_a_look_alike_gets_a_suggestion(sandbox: Sandbox) -> None:
    with pytest.raises(InvalidRequestError, match="Did you mean 'requests'"):
        await sandbox.install("reqeusts")
    result = await sandbox.run("import reqeusts")
    assert result.outcome == "error" and result.installed is None
    assert result.advice is not None and "'requests'" in result.advice


async def test_too_large_a_package_leaves_nothing(sandbox: Sandbox) -> None:
    with pytest.raises(InstallError, match=r"MiB|large"):
        await sandbox.install("heavy")
    assert (await sandbox.run("import heavy")).outcome == "error"


async def test_what_code_imports_is_installed_if_well_known(sandbox: Sandbox) -> None:
    await sandbox.reset()
    result = await sandbox.run("import tabulate; print(tabulate.VERSION)")
    assert result.output.text() == "1.0\n", result
    assert result.installed is not None and result.installed.packages == (("tabulate", "1.0"),)
    assert (await sandbox.run("import tabulate; print(1)")).installed is None
    told: list[str] = []
    assert (await sandbox.run("import numpy, json, tabulate", report=told.append)).outcome == "ok"
    assert not told
    unknown = await sandbox.run("import wants_one")
    assert unknown.outcome == "error" and unknown.installed is None
    assert unknown.advice is not None and "install_package('wants-one')" in unknown.advice
    caught = await sandbox.run("try:\n    import badpkg\nexcept ImportError:\n    print('caught')")
    assert caught.output.text() == "caught\n" and caught.advice is None
    await sandbox.reset()
    assert await text_of(sandbox, "open('mine.py', 'w').write('A = 1'); import mine; mine.A") == "1\n"


async def test_hostile_wheels_stay_in_their_folder(sandbox: Sandbox) -> None:
    await sandbox.reset()
    with contextlib.suppress(InstallError):
        await sandbox.install("climber")
        code = """
import climber, os
place = os.path.dirname(climber.__file__)
print([n for n in range(1, 6) if os.path.exists(place + '/..' * n + '/climbed.py')])"""
        assert await text_of(sandbox, code) == "[]\n"
    await sandbox.install("pather")
    assert await text_of(sandbox, "import os, pather; print(os.path.exists('/workspace/pth'), pather.VERSION)") == (
        "False 1.0\n"
    )


async def test_user_code_reaches_neither_folder_nor_cache(sandbox: Sandbox) -> None:
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
    lambda: os.listdir('/packages/sandboxes'),
    lambda: os.listdir('/packages/cache'),
    lambda: os.listdir('/packages/staging'),
    lambda: os.listdir('/packages/used'),
)])"""
    assert await text_of(sandbox, code) == f"{[True] * 10}\n"


async def test_credentials_are_in_no_container_s_description(sandbox: Sandbox, api: APIClient) -> None:
    await sandbox.reset()
    await sandbox.install("apkg")
    ours = api.containers(all=True, filters={"label": "mcp-agentrun.role"})
    assert len(ours) >= 2
    for container in ours:
        assert PASSWORD not in str(api.inspect_container(container["Id"]))
    seen = await text_of(sandbox, "import os; print(dict(os.environ), open('/proc/self/mountinfo').read())")
    assert PASSWORD not in seen


async def test_a_cancelled_installation_leaves_a_consistent_state(sandbox: Sandbox) -> None:
    await sandbox.reset()
    scope = anyio.CancelScope()

    def cancel(text: str) -> None:
        if text.startswith("resolving"):
            scope.cancel()

    with scope:
        await sandbox.install("wants-two", report=cancel)
    assert scope.cancelled_caught
    assert (await sandbox.install("wants-one")).packages == (("apkg", "1.0"), ("wants-one", "1.0"))


async def test_offline_with_a_wheelhouse(runner_image: str, tmp_path: Path) -> None:
    make_wheel(tmp_path, "housed", "1.5", needs=("housed-too",))
    make_wheel(tmp_path, "housed-too")
    settings = Settings(safety="off", wheelhouse=tmp_path, offline=True, preinstall=("housed-too",))
    async with open_sandbox(settings, NetworkSettings()) as sandbox:
        assert await text_of(sandbox, "import housed_too; housed_too.VERSION") == "'1.0'\n"
        assert ("housed", "1.5") in (await sandbox.install("housed")).packages
        assert await text_of(sandbox, "import housed; housed.VERSION") == "'1.5'\n"
        with pytest.raises(InstallError, match="apkg"):
            await sandbox.install("apkg")
        await sandbox.reset()
        assert await text_of(sandbox, "import housed_too; print(1)") == "1\n"
        assert (await sandbox.run("import housed")).outcome == "error"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
async def test_behind_a_proxy_with_its_own_authority(runner_image: str, api: APIClient, tmp_path: Path) -> None:
    address = gateway_of(api)
    await anyio.run_process(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=i"),
            *("-keyout", "key.pem", "-out", "cert.pem", "-addext", f"subjectAltName=IP:{address}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        ],
        cwd=tmp_path,
    )
    certificate = (tmp_path / "cert.pem").read_bytes()
    (tmp_path / "both.pem").write_bytes((tmp_path / "key.pem").read_bytes() + certificate)
    make_wheel(tmp_path / "simple" / "proxied", "proxied")
    with (
        serve_proxy(api, credentials=f"someone:{PASSWORD}") as (proxy, asked),
        serve_index(tmp_path, api, certificate=tmp_path / "both.pem") as url,
    ):
        network = NetworkSettings(index_url=url, proxies={"HTTPS_PROXY": proxy}, ca_bundle=certificate)
        async with open_sandbox(None, network) as sandbox:
            assert (await sandbox.install("proxied")).packages == (("proxied", "1.0"),)
            assert asked and all(target.startswith(address) for target in asked)
            with pytest.raises(InstallError) as refused:
                await sandbox.install("not-proxied")
            assert PASSWORD not in str(refused.value)
        wrong = NetworkSettings(index_url=url, proxies={"HTTPS_PROXY": proxy.replace(PASSWORD, PASSWORD + "-wrong")})
        async with open_sandbox(None, wrong) as sandbox:
            with pytest.raises(InstallError) as refused:
                await sandbox.install("proxied-elsewhere")
            assert PASSWORD not in str(refused.value)


async def test_user_code_that_tries_while_an_installation_runs(sandbox: Sandbox) -> None:
    await sandbox.reset()
    await text_of(
        sandbox,
        """
import os, socket, threading
reached, tries, enough = [], [0], threading.Event()
def attempt():
    while not enough.wait(0.01):
        tries[0] += 1
        for act in (
            lambda: socket.create_connection(("172.17.0.1", 80), timeout=0.1),
            lambda: os.listdir("/packages/cache"),
            lambda: os.listdir("/packages/staging"),
            lambda: os.listdir("/packages/sandboxes"),
            lambda: open("/packages/x", "w"),
            lambda: open("/packages/staging/x", "w"),
        ):
            try:
                reached.append(act())
            except OSError:
                pass
threading.Thread(target=attempt, daemon=True).start()
""",
    )
    before = int(await text_of(sandbox, "print(tries[0])"))
    assert (await sandbox.install("wants-two")).packages
    assert await text_of(sandbox, f"enough.set(); print(reached, tries[0] > {before})") == "[] True\n"


async def test_the_cache_is_shown(runner_image: str, tmp_path: Path) -> None:
    make_wheel(tmp_path, "cached-only-here")
    settings = Settings(safety="off", wheelhouse=tmp_path, offline=True)
    engine = DockerEngine(recipe=ImageRecipe())
    try:
        async with (
            Installer(engine, settings, NetworkSettings()) as installer,
            Sandbox(engine, settings, installer=installer) as sandbox,
        ):
            await sandbox.install("cached-only-here")
            assert "cached-only-here" in [name for name, _ in (await installer.cache()).packages]
    finally:
        await engine.aclose()
