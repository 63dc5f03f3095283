"""What an operator can set about packages, each tried from end to end with an index of the test's own."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from docker import APIClient
from docker.types import Mount
from mcp import Client
from mcp.client.stdio import stdio_client

from mcp_agentrun.engine import LABEL_SANDBOX
from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.engine.registry import create_engine
from mcp_agentrun.errors import InstallError, InvalidRequestError, SettingsError
from mcp_agentrun.packages.policy_settings import policy_from_settings
from mcp_agentrun.sandbox import AsyncRuntime, AsyncSandbox
from mcp_agentrun.settings import Settings
from tests.support.clients import server_parameters, server_process
from tests.support.clients import text_of as answer_text_of
from tests.support.containers import containers_of, installer_of, installers_of, remove, run_in_container, volume_of
from tests.support.local_index import PASSWORD, digest_of, make_source, make_wheel, serve_index
from tests.support.sandboxes import installing, open_sandbox, text_of

pytestmark = pytest.mark.anyio

_YEAR = 365 * 86400


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("index")
    simple = root / "simple"
    make_wheel(simple / "hashed", "hashed", "1.0")
    make_wheel(simple / "hashed", "hashed", "2.0")
    make_wheel(simple / "forged", "forged")
    make_wheel(simple / "unhashed", "unhashed")
    make_wheel(simple / "spelled", "spelled", "1.0.0")
    make_wheel(simple / "localised", "localised", "1.0")
    make_wheel(simple / "localised", "localised", "1.0+local")
    old = make_wheel(simple / "aged", "aged", "1.0")
    os.utime(old, (then := time.time() - 2 * _YEAR, then))
    make_wheel(simple / "aged", "aged", "2.0")
    make_wheel(simple / "brand-new", "brand-new")
    make_source(simple / "sourced", "sourced")
    make_wheel(simple / "wants-sourced", "wants-sourced", needs=("sourced",))
    make_wheel(simple / "random-bytes", "random-bytes", files={"random.bin": os.urandom(6 << 20)})
    for number in range(3):
        make_wheel(simple / f"bulky-{number}", f"bulky-{number}", files={f"{number}.bin": os.urandom(3 << 20)})
    make_wheel(simple / "two-files", "two-files", files={"a.bin": "\0" * (6 << 20), "b.bin": "\0" * (6 << 20)})
    return root


@pytest.fixture(scope="module")
def index(root: Path, api: APIClient) -> Iterator[str]:
    with serve_index(root, api, credentials=f"someone:{PASSWORD}", is_modern=True) as url:
        yield url


async def test_only_files_with_a_known_hash(runner_image: str, index: str, root: Path, tmp_path: Path) -> None:
    wheel = root / "simple/hashed/hashed-1.0-py3-none-any.whl"
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(
        f"hashed==1.0 --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{digest_of(wheel)}\n"
        f"forged==1.0 --hash=sha256:{'1' * 64}\n"
    )
    async with installing(index, packages_constraints=constraints) as sandbox:
        assert (await sandbox.install("hashed")).packages == (("hashed", "1.0"),)
        with pytest.raises(InstallError, match=r"(?i)hash mismatch.*forged"):
            await sandbox.install("forged")
        assert ("unhashed", "1.0") in (await sandbox.install("unhashed")).packages
        assert await text_of(sandbox, "import hashed, unhashed; hashed.VERSION") == "'1.0'\n"
        assert (await sandbox.run("import forged")).outcome == "error"
    async with installing(index, packages_constraints=constraints, packages_require_hashes=True) as sandbox:
        with pytest.raises(InstallError, match=r"no hash for unhashed 1\.0"):
            await sandbox.install("hashed", "unhashed")
        assert (await sandbox.install("hashed")).packages == (("hashed", "1.0"),)


async def test_hashes_hold_for_a_version_however_it_is_spelled_and_for_no_other(
    runner_image: str, index: str, root: Path, tmp_path: Path
) -> None:
    right, wrong = tmp_path / "right.txt", tmp_path / "wrong.txt"
    digest = digest_of(root / "simple/spelled/spelled-1.0.0-py3-none-any.whl")
    right.write_text(f"spelled==1.0 --hash=sha256:{digest}\n")
    local = digest_of(root / "simple/localised/localised-1.0-py3-none-any.whl")
    wrong.write_text(f"spelled==1.0 --hash=sha256:{'0' * 64}\nlocalised==1.0 --hash=sha256:{local}\n")
    async with installing(index, packages_constraints=right) as sandbox:
        assert (await sandbox.install("spelled")).packages == (("spelled", "1.0.0"),)
    async with installing(index, packages_constraints=wrong, packages_urls=True) as sandbox:
        with pytest.raises(InstallError, match=r"(?i)hash mismatch.*spelled"):
            await sandbox.install("spelled")
        with pytest.raises(InstallError, match=r"no hash for localised 1\.0\+local"):
            await sandbox.install("localised")
        with pytest.raises(InstallError, match="no hash for spelled @"):
            await sandbox.install(f"spelled @ {index}spelled/spelled-1.0.0-py3-none-any.whl")


@pytest.mark.parametrize("limit", ["7 days", "2026-01-01"])
async def test_releases_that_are_too_new(runner_image: str, index: str, limit: str) -> None:
    async with installing(index, packages_exclude_newer=limit) as sandbox:
        assert (await sandbox.install("aged")).packages == (("aged", "1.0"),)
        with pytest.raises(InstallError, match="brand-new") as refused:
            await sandbox.install("brand-new")
        assert str(refused.value).endswith(f"than {limit}.")


async def test_sources_are_built_in_the_installer_alone_and_only_if_the_operator_says_so(
    runner_image: str, index: str
) -> None:
    async with installing(index) as sandbox:
        for asked in ("sourced", "wants-sourced"):
            with pytest.raises(InstallError, match="packages_build"):
                await sandbox.install(asked)
    async with installing(index, packages_build=True) as sandbox:
        await text_of(sandbox, "kept = 41")
        installed = await sandbox.install("wants-sourced")
        assert installed.packages == (("sourced", "1.0"), ("wants-sourced", "1.0"))
        assert await text_of(sandbox, "import sourced; print(sourced.BUILT_BY, kept)") == "10020 41\n"


async def test_files_by_their_address_only_if_the_operator_says_so(runner_image: str, index: str) -> None:
    wheel = f"unhashed @ {index}unhashed/unhashed-1.0-py3-none-any.whl"
    source = f"sourced @ {index}sourced/sourced-1.0.tar.gz"
    async with installing(index) as sandbox:
        with pytest.raises(InvalidRequestError, match="URL"):
            await sandbox.install(wheel)
    async with installing(index, packages_urls=True) as sandbox:
        assert [name for name, _ in (await sandbox.install(wheel)).packages] == ["unhashed"]
        assert await text_of(sandbox, "import unhashed; unhashed.VERSION") == "'1.0'\n"
        with pytest.raises(InstallError, match="packages_build"):
            await sandbox.install(source)
        assert (await sandbox.install("aged")).packages == (("aged", "2.0"),)
    async with installing(index, packages_urls=True, packages_deny=("unhashed",)) as sandbox:
        with pytest.raises(InvalidRequestError, match="denied"):
            await sandbox.install(wheel)


async def test_limits_on_what_is_downloaded_and_on_what_it_takes(runner_image: str, index: str, own_image: str) -> None:
    async with installing(index, image=own_image, packages_download=2 << 20) as sandbox:
        with pytest.raises(InstallError, match="The download is larger than 2 MiB"):
            await sandbox.install("random-bytes")
        assert (await sandbox.install("aged")).packages == (("aged", "2.0"),)
        assert (await sandbox.run("import random_bytes")).outcome == "error"
    async with installing(index, packages_size=8 << 20) as sandbox:
        with pytest.raises(InstallError, match="take more than 8 MiB"):
            await sandbox.install("two-files")
        assert (await sandbox.run("import two_files")).outcome == "error"


@pytest.mark.parametrize(
    ("content", "limits", "said"),
    [
        ({f"many/{n}.txt": "" for n in range(2000)}, {"packages_files": 1000}, "more than 1000 files"),
        ({f"many/{n}/": "" for n in range(2000)}, {"packages_files": 1000}, "more than 1000 files"),
        ({f"many/{n}.txt": "" for n in range(3000)}, {"packages_size": 8 << 20}, "more than 8 MiB"),
        ({f"many/{n}/": "" for n in range(3000)}, {"packages_size": 8 << 20}, "more than 8 MiB"),
        ({f"zeros/{n}.bin": "\0" * (4 << 20) for n in range(32)}, {"packages_size": 16 << 20}, "more than 16 MiB"),
    ],
    ids=["empty files", "folders", "size of empty files", "size of folders", "a small file with much in it"],
)
async def test_what_takes_too_much_is_stopped_and_leaves_nothing(
    api: APIClient, own_image: str, tmp_path: Path, content: dict[str, str], limits: dict[str, int], said: str
) -> None:
    make_wheel(tmp_path / "simple" / "greedy", "greedy", files=content)
    make_wheel(tmp_path / "simple" / "modest", "modest")
    with serve_index(tmp_path, api) as url:
        async with installing(url, image=own_image, **limits) as sandbox:
            with pytest.raises(InstallError, match=said):
                await sandbox.install("greedy")
            assert (await sandbox.install("modest")).packages == (("modest", "1.0"),)
            look = api.exec_create(installer_of(api, own_image), ["du", "-sk", "/packages"], user="0")
            assert int(api.exec_start(look["Id"]).split()[0]) < 1024, "kibibytes"


async def test_files_of_a_wheelhouse_that_are_no_distributions_are_skipped(
    runner_image: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wheelhouse = tmp_path / "wheelhouse"
    wheel = make_wheel(wheelhouse, "good")
    for name in ("good-1.0-py3-none-any (1).whl", "good.whl", "notes.zip", "good-1.0.tar.gz.part", "\u00e9-1.0.tar.gz"):
        (wheelhouse / name).write_bytes(wheel.read_bytes())
    (wheelhouse / "folder-1.0-py3-none-any.whl").mkdir()
    async with open_sandbox(
        Settings(safety="off", preload=(), wheelhouse=wheelhouse, offline=True), NetworkSettings()
    ) as sandbox:
        assert (await sandbox.install("good")).packages == (("good", "1.0"),)
    assert "good-1.0-py3-none-any (1).whl" in caplog.text


async def test_the_cache_keeps_within_its_size_and_is_shown_and_cleared(
    api: APIClient, index: str, own_image: str
) -> None:
    settings = Settings(safety="off", preload=(), image=own_image, cache_size=8 << 20)
    engine = create_engine(settings)
    try:
        async with (
            AsyncRuntime(settings, engine=engine, package_network=NetworkSettings(index_url=index)) as runtime,
            runtime.sandbox() as sandbox,
        ):
            for number in range(3):
                await sandbox.install(f"bulky-{number}")
            # As if another server trimmed the cache just now, and one of another release had used it.
            in_volume(api, own_image, "cd /packages/used; ln -s /gone uv0/gone; mkdir other; touch other/other")
            held = await runtime.installer.cache()
            assert [name for name, _ in held.packages] == ["bulky-1", "bulky-2"]
            assert 6 << 20 <= held.size <= 8 << 20
            assert "bulky-2\n" in await cache_command(own_image, index, "show")
            assert "bulky" not in await cache_command(own_image, index, "clear")
            assert (await runtime.installer.cache()).size < 1 << 20
            assert await text_of(sandbox, "import bulky_0, bulky_1, bulky_2; bulky_0.VERSION") == "'1.0'\n"
            assert (await sandbox.install("aged")).packages == (("aged", "2.0"),)
        assert "aged\n" in await cache_command(own_image, index, "show")
    finally:
        await engine.aclose()


async def cache_command(image: str, index: str, command: str) -> str:
    """What ``mcp-agentrun cache`` says."""
    run = await anyio.run_process(
        [sys.executable, "-m", "mcp_agentrun", "--image", image, "cache", command],
        env={**os.environ, "UV_DEFAULT_INDEX": index},
    )
    assert PASSWORD.encode() not in run.stdout + run.stderr
    return run.stdout.decode()


async def test_credentials_are_in_no_log_no_answer_and_no_description(
    runner_image: str, index: str, api: APIClient, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    parameters = server_parameters(
        *("--log-level", "debug", "--preinstall", "not-in-the-index"), env={"UV_DEFAULT_INDEX": index}
    )
    said: list[str] = []
    with log.open("w") as file:
        async with Client(stdio_client(parameters, errlog=file)) as client:
            run = await client.call_tool("run_python", {"code": "import os; print(os.getppid())"})
            said.append(answer_text_of(run))
            for packages in ("aged", "no-such-thing", ["aged==1.0", "aged==2.0"], "sourced", "random-bytes"):
                said.append(answer_text_of(await client.call_tool("install_package", {"packages": packages})))
            said.append(answer_text_of(await client.call_tool("run_python", {"code": "import aged, os; os.environ"})))
            ours = containers_of(api, server_process().pid)
            descriptions = [str(api.inspect_container(container)) for container in ours]
    assert "aged 2.0" in said[1] and "no-such-thing" in said[2]
    assert len(descriptions) >= 2
    for text in (log.read_text(), *said, *descriptions):
        assert PASSWORD not in text and "someone" not in text
    assert "not-in-the-index" in log.read_text(), "the operator is told"
    assert "not-in-the-index could not be installed" in said[0], "and so is the model"
    assert not any("not-in-the-index" in text for text in said[1:])


async def test_what_the_operator_wants_comes_first_whatever_may_be_asked_for(runner_image: str, index: str) -> None:
    async with installing(index, preinstall=("aged<2",), packages_allow=("hashed",)) as sandbox:
        assert await text_of(sandbox, "import aged; aged.VERSION") == "'1.0'\n"
        assert (await sandbox.install("hashed")).packages == (("hashed", "2.0"),)
        assert await text_of(sandbox, "import hashed; print(aged.VERSION, hashed.VERSION)") == "1.0 2.0\n"
        with pytest.raises(InvalidRequestError, match="allowed"):
            await sandbox.install("unhashed")
    with pytest.raises(SettingsError, match=r"preinstall: .* names a URL"):
        policy_from_settings(Settings(preinstall=("six @ https://example.org/six.whl",)))


async def test_what_code_imports_may_have_a_name_that_no_package_can_have(runner_image: str, index: str) -> None:
    async with installing(index, auto_install="all") as sandbox:
        code = "try:\n    import __builtin__\nexcept ImportError:\n    import _private as a, \u00e9t\u00e9 as b"
        result = await sandbox.run(code)
        assert result.error is not None and result.error.message == "No module named '_private'"
        assert result.advice is not None and "no package can have that name" in result.advice
        assert await text_of(sandbox, "import aged; aged.VERSION") == "'2.0'\n"


async def test_what_can_not_be_installed_beforehand_is_told_once_and_is_in_nobody_s_way(
    runner_image: str, index: str
) -> None:
    async with installing(index, preinstall=("no-such-thing", "aged")) as sandbox:
        installed = await sandbox.install("hashed")
        assert installed.packages == (("hashed", "2.0"),)
        assert (
            installed.missing_packages is not None
            and "come with, no-such-thing, aged could not be" in installed.missing_packages
        )
        assert (await sandbox.run("1")).missing_packages is None


@pytest.mark.not_on("podman", reason="it limits a volume only where the file system has project quotas")
async def test_a_full_volume_is_said_and_leaves_what_was_there(api: APIClient, index: str, own_image: str) -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=6m,uid=10002,gid=10002,mode=0755"}
    api.create_volume(volume_of(own_image), driver="local", driver_opts=options, labels={"mcp-agentrun.role": "cache"})
    async with installing(index, image=own_image) as sandbox:
        await text_of(sandbox, "kept = 41")
        assert (await sandbox.install("aged")).packages == (("aged", "2.0"),)
        for asked in ("random-bytes", "two-files"):
            with pytest.raises(InstallError, match="The package volume is full"):
                await sandbox.install(asked)
        assert await text_of(sandbox, "import aged; print(aged.VERSION, kept)") == "2.0 41\n"
        assert (await sandbox.install("unhashed")).packages == (("unhashed", "1.0"),)


async def test_cancelled_in_the_middle_of_a_download(api: APIClient, root: Path, own_image: str) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def on_half(name: str) -> None:
        if name.startswith("bulky"):
            asked.set()
            go_on.wait(60)

    with serve_index(root, api, is_modern=True, on_half=on_half) as url:
        async with installing(url, image=own_image) as sandbox:
            await text_of(sandbox, "kept = 41")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sandbox.install, "bulky-1", "aged")
                await anyio.to_thread.run_sync(asked.wait, 60)
                tasks.cancel_scope.cancel()
            assert (await sandbox.run("import bulky_1")).outcome == "error"
            listed = api.exec_create(installer_of(api, own_image), ["ls", "/packages/staging", "/packages/sandboxes"])
            assert api.exec_start(listed["Id"]) == b"/packages/sandboxes:\n\n/packages/staging:\n"
            go_on.set()
            assert (await sandbox.install("bulky-1", "aged")).packages == (("aged", "2.0"), ("bulky-1", "1.0"))
            assert await text_of(sandbox, "import bulky_1; print(bulky_1.VERSION, kept)") == "1.0 41\n"


async def test_packages_that_nobody_wants_go_behind_another_s_installation(
    api: APIClient, root: Path, own_image: str
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def on_half(name: str) -> None:
        if name.startswith("bulky"):
            asked.set()
            go_on.wait(60)

    settings = Settings(safety="off", preload=(), image=own_image)
    engine = create_engine(settings)
    try:
        with serve_index(root, api, is_modern=True, on_half=on_half) as url:
            async with (
                AsyncRuntime(settings, engine=engine, package_network=NetworkSettings(index_url=url)) as runtime,
                runtime.sandbox() as one,
                runtime.sandbox() as other,
            ):
                await one.install("aged")
                async with anyio.create_task_group() as tasks:
                    async with runtime.sandbox() as short:
                        await short.install("aged")
                        assert folders_in(api, own_image) == {one.id, short.id}
                        tasks.start_soon(other.install, "bulky-1")
                        await anyio.to_thread.run_sync(asked.wait, 60)
                        with anyio.fail_after(60):
                            await one.reset()
                    go_on.set()
                    # What is asked for behind a reset comes behind the removal.
                    assert (await one.install("aged==1.0")).packages == (("aged", "1.0"),)
                assert folders_in(api, own_image) == {one.id, other.id}
                assert await text_of(one, "import aged; aged.VERSION") == "'1.0'\n"
                remove(api, installer_of(api, own_image))
                connection = runtime.installer._connected()  # pyright: ignore[reportPrivateUsage]
                with anyio.fail_after(60):
                    while connection.manager.is_ready:
                        await anyio.sleep(0.02)  # it tells nobody
                await one.reset()
                assert (await other.install("aged")).packages == (("aged", "2.0"),)
                assert folders_in(api, own_image) == {other.id}
    finally:
        go_on.set()
        await engine.aclose()


async def test_what_a_server_has_installed_is_left_by_another_while_no_container_has_it(
    api: APIClient, index: str, own_image: str
) -> None:
    async with installing(index, image=own_image) as sandbox:
        await sandbox.install("aged")
        await text_of(sandbox, "import aged")
        folder = f"/packages/sandboxes/{sandbox.id}"
        make_old(api, own_image, folder)
        with anyio.fail_after(60):
            while await anyio.to_thread.run_sync(is_old, api, own_image, folder):
                pass
        lose(api, own_image, sandbox.id)
        async with installing(index, image=own_image) as other:
            await other.install("unhashed")
            assert folders_in(api, own_image) == {sandbox.id, other.id}
        result = await sandbox.run("import aged; aged.VERSION")
        assert result.replaced and result.output.text() == "'2.0'\n"


async def test_what_was_removed_while_the_engine_was_away_is_installed_again_or_told(
    api: APIClient, index: str, own_image: str, tmp_path: Path
) -> None:
    make_wheel(tmp_path, "housed")
    offered = make_wheel(tmp_path, "offered")
    arguments: dict[str, Any] = {"image": own_image, "wheelhouse": tmp_path, "preinstall": ("housed",)}
    async with installing(index, **arguments) as sandbox, installing(index, **arguments) as bare:
        await sandbox.install("aged")
        await text_of(sandbox, "import aged, housed")
        assert await text_of(bare, "import housed; housed.VERSION") == "'1.0'\n"

        async def lose_all() -> None:
            """The engine's end for both, and then another server."""
            for each in (sandbox, bare):
                lose(api, own_image, each.id)
            while installers := installers_of(api, own_image):
                remove(api, installers[0])
            make_old(api, own_image, "/packages/sandboxes/*")
            async with installing(index, image=own_image) as other:
                await other.install("unhashed")
                assert folders_in(api, own_image) == {other.id}

        await lose_all()
        again = await sandbox.run("import aged, housed; aged.VERSION")
        assert again.replaced and again.output.text() == "'2.0'\n" and again.missing_packages is None
        assert await text_of(bare, "import housed; housed.VERSION") == "'1.0'\n"
        assert (await sandbox.install("offered")).packages == (("offered", "1.0"),)

        await lose_all()
        offered.unlink()
        installed = await sandbox.install("aged")
        assert (
            installed.missing_packages is not None
            and "gone, and housed, aged, offered could not be" in installed.missing_packages
        )
        assert installed.packages == (("aged", "2.0"),)
        assert (await sandbox.run("import aged, housed; aged.VERSION")).output.text() == "'2.0'\n"
        assert (await sandbox.run("import offered")).outcome == "error"


async def test_a_wheelhouse_in_use_is_left_when_another_clears_the_cache(
    index: str, own_image: str, tmp_path: Path, api: APIClient
) -> None:
    make_wheel(tmp_path, "housed")
    make_wheel(tmp_path, "offered")
    async with installing(index, image=own_image, wheelhouse=tmp_path) as sandbox:
        await sandbox.install("housed")
        (wheelhouse,) = in_volume(api, own_image, "ls -d /packages/wheelhouses/*").split()
        in_volume(api, own_image, f"cp -r {wheelhouse} {wheelhouse[:-4]}left")
        make_old(api, own_image, wheelhouse[:-4] + "left")
        await cache_command(own_image, index, "clear")
        assert (await sandbox.install("offered")).packages == (("offered", "1.0"),)
        assert in_volume(api, own_image, "ls -d /packages/wheelhouses/*").split() == [wheelhouse]


def lose(api: APIClient, image: str, sandbox: str) -> None:
    """The container of *sandbox* goes, as when the engine ends."""
    (found,) = api.containers(filters={"label": f"{LABEL_SANDBOX}={sandbox}"})
    remove(api, found["Id"])


def make_old(api: APIClient, image: str, folder: str) -> None:
    """Date *folder* in the package volume of *image* back."""
    in_volume(api, image, f"touch -d '1 hour ago' {folder}")


def is_old(api: APIClient, image: str, folder: str) -> bool:
    return in_volume(api, image, f"find {folder} -maxdepth 0 -mmin +10") != ""


def in_volume(api: APIClient, image: str, command: str) -> str:
    """What *command* says where the package volume of *image* is."""
    mounts = [Mount("/packages", volume_of(image), type="volume")]
    return run_in_container(api, image, "sh", "-c", command, user="10002:10002", mounts=mounts)


def folders_in(api: APIClient, image: str) -> set[str]:
    """Ids of the sandboxes for which the volume of *image* has packages."""
    listed = api.exec_create(installer_of(api, image), ["ls", "/packages/sandboxes"])
    return set(api.exec_start(listed["Id"]).decode().split())


async def test_two_servers_install_the_same_at_once(index: str, own_image: str) -> None:
    """Each has an installer of its own, on the one volume."""
    found: list[tuple[tuple[str, str], ...]] = []
    async with installing(index, image=own_image) as one, installing(index, image=own_image) as other:

        async def install(sandbox: AsyncSandbox) -> None:
            found.append((await sandbox.install("bulky-0", "bulky-1", "aged")).packages)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(install, one)
            tasks.start_soon(install, other)
        assert found == [(("aged", "2.0"), ("bulky-0", "1.0"), ("bulky-1", "1.0"))] * 2
        places = [await text_of(each, "import bulky_0, bulky_1; print(bulky_0.__file__)") for each in (one, other)]
        assert places[0] != places[1]
        await one.reset()
        assert (await one.run("import bulky_0")).outcome == "error"
        assert await text_of(other, "import aged; aged.VERSION") == "'2.0'\n"
