"""Capabilities that an engine reports as missing."""

from __future__ import annotations

from mcp_agentrun.engine.docker.inventory import weaknesses


def test_what_engines_say_of_themselves() -> None:
    strong = {
        "OSType": "linux",
        "CgroupDriver": "systemd",
        "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"],
        "MemoryLimit": True,
        "PidsLimit": True,
        "CpuCfsQuota": True,
    }
    assert weaknesses(strong) == []
    assert weaknesses({**strong, "CgroupDriver": "none"}) == ["it has no cgroups, so it can't enforce any limit"]
    assert weaknesses({**strong, "SecurityOptions": None}) == ["it has no seccomp"]
    assert weaknesses({**strong, "MemoryLimit": False}) == ["it does not limit memory"]
    assert weaknesses({**strong, "OSType": "windows"}) == ["it runs windows containers, not Linux containers"]
