"""Packages from an index of the test's own: what is refused, what is installed, and what hostile wheels can do."""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from docker import APIClient

from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.engine.registry import create_engine
from mcp_agentrun.errors import InstallError, InvalidRequestError
from mcp_agentrun.sandbox import AsyncRuntime, AsyncSandbox
from mcp_agentrun.settings import Settings
from tests.support.containers import containers_of
from tests.support.local_index import PASSWORD, gateway_of, make_certificate, make_wheel, serve_index, serve_proxy
from tests.support.sandboxes import open_sandbox, text_of

pytestmark = pytest.mark.anyio


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
    make_wheel(simple / "sheds", "sheds", "1.0", needs=("tabulate",))
    make_wheel(simple / "sheds", "sheds", "2.0")
    make_wheel(simple / "heavy", "heavy", files={"heavy.bin": "\0" * (40 << 20)})
    make_wheel(simple / "reqeusts", "reqeusts")
    (simple / "sourced").mkdir()
    (root / "setup.py").write_text("raise SystemExit('executed')")
    with tarfile.open(simple / "sourced" / "sourced-1.0.tar.gz", "w:gz") as archive:
        archive.add(root / "setup.py", "sourced-1.0/setup.py")
    (root / "setup.py").unlink()
    with serve_index(root, api, credentials=f"someone:{PASSWORD}") as url:
        yield url


@pytest.fixture(scope="module")
async def sandbox(module_image: str, index: str, anyio_backend: str) -> AsyncIterator[AsyncSandbox]:
    settings = Settings(
        safety="off",
        preload=(),
        image=module_image,
        packages_deny=("badpkg", "apkg>2"),
        packages_size=32 << 20,
        packages_allow=("*", "allowed"),
    )
    async with open_sandbox(settings, NetworkSettings(index_url=index)) as sandbox:
        yield sandbox


async def test_versions_change_and_variables_stay(sandbox: AsyncSandbox) -> None:
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
    assert newer.changed == (("apkg", "1.0", "2.0"),) and newer.stale == ("apkg",)
    assert await text_of(sandbox, f"print(open({before.strip()!r}).read())") == "VERSION = '1.0'\n\n"
    await sandbox.reset(keep_packages=True, keep_files=True)
    assert await text_of(sandbox, "import apkg; print(apkg.VERSION)") == "2.0\n"


async def test_a_reset_is_needed_only_after_an_import(sandbox: AsyncSandbox) -> None:
    async def change(to: str) -> tuple[str, ...]:
        installed = await sandbox.install(f"apkg=={to}")
        assert [(name, now) for name, _, now in installed.changed] == [("apkg", to)]
        return installed.stale

    await sandbox.reset()
    await sandbox.install("apkg<2")
    await text_of(sandbox, "import json")
    assert await change("2.0") == ()
    assert await text_of(sandbox, "import apkg; apkg.VERSION") == "'2.0'\n"
    assert await change("1.0") == ("apkg",)
    assert await change("2.0") == ("apkg",), "it is still there"
    await sandbox.reset(keep_packages=True, keep_files=True)
    assert await change("1.0") == ()
    crashed = await sandbox.run("import apkg, os; os._exit(1)")
    assert crashed.outcome == "crashed"
    assert await change("2.0") == (), "what has imported it is gone"
    await text_of(sandbox, "def later():\n    import apkg\n    return apkg.VERSION")
    assert await change("1.0") == ()
    assert await text_of(sandbox, "print(later())") == "1.0\n"
    assert await change("2.0") == ("apkg",)


async def test_what_is_there_keeps_its_version_where_it_can(sandbox: AsyncSandbox) -> None:
    await sandbox.reset()
    assert ("apkg", "1.0") in (await sandbox.install("wants-one")).packages
    await sandbox.reset()
    assert (await sandbox.install("apkg>=1")).packages == (("apkg", "2.0"),)
    assert (await sandbox.install("wants-one")).changed == (("apkg", "2.0", "1.0"),)
    await sandbox.reset()
    await sandbox.install("apkg<2")
    assert not (await sandbox.install("apkg>=1", "tabulate")).changed


async def test_a_marker_that_does_not_apply_takes_nothing_away(sandbox: AsyncSandbox) -> None:
    await sandbox.reset()
    skipped = await sandbox.install("apkg; sys_platform == 'win32'")
    assert (skipped.packages, skipped.skipped) == ((), ("apkg",))
    assert (await sandbox.install("apkg==1.0")).packages == (("apkg", "1.0"),)
    again = await sandbox.install("apkg==2.0; sys_platform == 'win32'")
    assert not (again.packages or again.removed or again.changed)
    assert await text_of(sandbox, "import apkg; apkg.VERSION") == "'1.0'\n"


async def test_what_is_not_needed_any_more_is_told(sandbox: AsyncSandbox) -> None:
    await sandbox.reset()
    await sandbox.install("sheds==1.0")
    assert (await sandbox.install("sheds==2.0")).removed == (("tabulate", "1.0"),)


async def test_a_missing_submodule_is_no_missing_package(sandbox: AsyncSandbox) -> None:
    for code, advised in (("import numpy.nosuch", False), ("import nosuchmodule.part", True)):
        result = await sandbox.run(code)
        assert result.error is not None and result.error.type == "ModuleNotFoundError"
        assert (result.advice is not None) is advised


async def test_satisfied_without_an_installer(sandbox: AsyncSandbox) -> None:
    installed = await sandbox.install("numpy>1", "pandas")
    assert [name for name, _ in installed.satisfied] == ["numpy", "pandas"]
    assert not installed.packages


async def test_a_denial_holds_for_dependencies(sandbox: AsyncSandbox) -> None:
    with pytest.raises(InvalidRequestError, match="denied by this server's rule 'badpkg'"):
        await sandbox.install("BadPkg")
    with pytest.raises(InstallError, match=r"badpkg 1\.0, a dependency of what you requested, is denied"):
        await sandbox.install("needs-bad")
    assert (await sandbox.run("import needs_bad")).outcome == "error"


async def test_refusals_are_the_resolver_s_own_without_plumbing_or_credentials(sandbox: AsyncSandbox) -> None:
    await sandbox.reset()
    with pytest.raises(InstallError, match="wants-one") as conflict:
        await sandbox.install("wants-one", "wants-two")
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


async def test_a_look_alike_gets_a_suggestion(sandbox: AsyncSandbox) -> None:
    with pytest.raises(InvalidRequestError, match="Did you mean 'requests'"):
        await sandbox.install("reqeusts")
    result = await sandbox.run("import reqeusts")
    assert result.outcome == "error" and result.installed is None
    assert result.advice is not None and "'requests'" in result.advice


async def test_too_large_a_package_leaves_nothing(sandbox: AsyncSandbox) -> None:
    with pytest.raises(InstallError, match=r"MiB|large"):
        await sandbox.install("heavy")
    assert (await sandbox.run("import heavy")).outcome == "error"


async def test_what_code_imports_is_installed_if_well_known(sandbox: AsyncSandbox) -> None:
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


async def test_credentials_are_in_no_container_s_description(sandbox: AsyncSandbox, api: APIClient) -> None:
    await sandbox.reset()
    await sandbox.install("apkg")
    ours = containers_of(api, os.getpid())
    assert len(ours) >= 2
    for container in ours:
        assert PASSWORD not in str(api.inspect_container(container))
    seen = await text_of(sandbox, "import os; print(dict(os.environ), open('/proc/self/mountinfo').read())")
    assert PASSWORD not in seen


async def test_a_cancelled_installation_leaves_a_consistent_state(sandbox: AsyncSandbox) -> None:
    await sandbox.reset()
    scope = anyio.CancelScope()

    def cancel(text: str) -> None:
        if text.startswith("resolving"):
            scope.cancel()

    with scope:
        await sandbox.install("wants-two", report=cancel)
    assert scope.cancelled_caught
    assert (await sandbox.install("wants-one")).packages == (("apkg", "1.0"), ("wants-one", "1.0"))


async def test_offline_with_a_wheelhouse(module_image: str, tmp_path: Path) -> None:
    make_wheel(tmp_path, "housed", "1.5", needs=("housed-too",))
    make_wheel(tmp_path, "housed-too")
    settings = Settings(
        safety="off", preload=(), image=module_image, wheelhouse=tmp_path, offline=True, preinstall=("housed-too",)
    )
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
async def test_behind_a_proxy_with_its_own_authority(module_image: str, api: APIClient, tmp_path: Path) -> None:
    address = gateway_of(api)
    both = make_certificate(tmp_path, address)
    certificate = (tmp_path / "cert.pem").read_bytes()
    make_wheel(tmp_path / "simple" / "proxied", "proxied")
    settings = Settings(safety="off", preload=(), image=module_image)
    with (
        serve_proxy(api, credentials=f"someone:{PASSWORD}") as (proxy, asked),
        serve_index(tmp_path, api, certificate=both) as url,
    ):
        network = NetworkSettings(index_url=url, proxies={"HTTPS_PROXY": proxy}, ca_bundle=certificate)
        async with open_sandbox(settings, network) as sandbox:
            assert (await sandbox.install("proxied")).packages == (("proxied", "1.0"),)
            assert asked and all(target.startswith(address) for target in asked)
            with pytest.raises(InstallError) as refused:
                await sandbox.install("not-proxied")
            assert PASSWORD not in str(refused.value)
        wrong = NetworkSettings(index_url=url, proxies={"HTTPS_PROXY": proxy.replace(PASSWORD, PASSWORD + "-wrong")})
        async with open_sandbox(settings, wrong) as sandbox:
            with pytest.raises(InstallError) as refused:
                await sandbox.install("proxied-elsewhere")
            assert PASSWORD not in str(refused.value)


async def test_the_cache_is_shown(module_image: str, tmp_path: Path) -> None:
    make_wheel(tmp_path, "cached-only-here")
    settings = Settings(safety="off", preload=(), image=module_image, wheelhouse=tmp_path, offline=True)
    engine = create_engine(settings)
    try:
        async with (
            AsyncRuntime(settings, engine=engine, package_network=NetworkSettings()) as runtime,
            runtime.sandbox() as sandbox,
        ):
            await sandbox.install("cached-only-here")
            assert "cached-only-here" in [name for name, _ in (await runtime.installer.cache()).packages]
    finally:
        await engine.aclose()
