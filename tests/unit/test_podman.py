"""What Podman's client asks for, without a service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from docker.errors import APIError

from mcp_agentrun.engine.docker.podman import PodmanClient
from mcp_agentrun.errors import EngineError

PROFILE = 'seccomp={"defaultAction": "SCMP_ACT_ERRNO"}'


def host_config(**options: Any) -> dict[str, Any]:
    with PodmanClient(base_url="tcp://127.0.0.1:1", version="1.41") as client:
        return client.create_host_config(**options)


def test_only_a_mount_with_an_owner_is_given_to_the_container_s_user() -> None:
    asked = {"/own": "rw,nosuid,size=1k,nr_inodes=2,uid=5,gid=5", "/other": "rw,nosuid,size=1k"}
    mounts = host_config(tmpfs=asked)["Tmpfs"]
    assert mounts == {"/own": "rw,nosuid,size=1k,U,notmpcopyup", "/other": "rw,nosuid,size=1k,notmpcopyup"}


def test_the_profile_is_a_file_in_a_folder_that_nobody_else_can_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (option,) = host_config(security_opt=[PROFILE])["SecurityOpt"]
    assert f"seccomp={Path(option.removeprefix('seccomp=')).read_text()}" == PROFILE
    for folder in (tmp_path / "mcp-agentrun" / "seccomp", tmp_path / "mcp-agentrun"):
        folder.chmod(0o775)
        with pytest.raises(EngineError, match=f"Other users can change {folder},"):
            host_config(security_opt=[PROFILE])
        folder.chmod(0o755)


def test_a_link_is_not_taken_for_the_folder_of_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mcp-agentrun").symlink_to("elsewhere")
    with pytest.raises(EngineError, match="Other users can change"):
        host_config(security_opt=[PROFILE])


def test_a_profile_that_can_not_be_written_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "mcp-agentrun").touch()
    with pytest.raises(EngineError, match=r"can't be written: .*Set XDG_CACHE_HOME"):
        host_config(security_opt=[PROFILE])


def test_the_sizes_are_asked_for_again_if_a_container_was_removed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = APIError("500", explanation="failed to get state of container f2c9: container f2c9 does not exist")
    answers = [gone, {"Volumes": []}, APIError("500", explanation="no space left on device"), *[gone] * 99]

    def df(_: APIClient) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, APIError):
            raise answer
        return answer

    monkeypatch.setattr(APIClient, "df", df)
    with PodmanClient(base_url="tcp://127.0.0.1:1", version="1.41") as client:
        assert client.df() == {"Volumes": []}
        for problem in ("no space", "failed to get state"):
            with pytest.raises(APIError, match=problem):
                client.df()
