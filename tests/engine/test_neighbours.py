"""Servers and engines beside ours: neither these tests nor what they test touches what is theirs."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psutil
import pytest
from docker import APIClient

from mcp_agentrun.engine import LABEL_OWNER, LABEL_ROLE
from mcp_agentrun.engine.docker.discovery import connect
from mcp_agentrun.engine.owner import Owner
from tests.support.guarded_client import guarded_client
from tests.support.private_engine import private_engine


@pytest.fixture
def neighbour(runner_image: str) -> Iterator[APIClient]:
    """A client of the engine that may do what it likes."""
    client, _ = connect()
    assert client is not None
    yield client
    client.close()


def test_no_test_can_change_what_is_another_server_s(api: APIClient, neighbour: APIClient, runner_image: str) -> None:
    labels = {LABEL_ROLE: "runner", LABEL_OWNER: Owner.of(1).to_label()}  # which lives, and is no child of ours
    theirs = neighbour.create_container(runner_image, entrypoint=["sleep", "1000"], labels=labels)["Id"]
    unlabelled = neighbour.create_container(runner_image, entrypoint=["sleep", "1000"])["Id"]
    volume = neighbour.create_volume(f"mcp-agentrun-test-{secrets.token_hex(6)}")["Name"]
    try:
        guarded = guarded_client(connect()[0] or neighbour)
        for change in (
            lambda: api.remove_container(theirs, force=True),
            lambda: api.start(theirs),
            lambda: api.kill(unlabelled),
            lambda: api.pause(theirs),
            lambda: api.exec_create(theirs, "true"),
            lambda: guarded.remove_volume(volume),
            lambda: api.remove_network("none"),
            api.prune_containers,
            api.prune_volumes,
        ):
            with pytest.raises(AssertionError, match="does not belong to these tests"):
                change()
        guarded.close()
        own = api.create_container(runner_image, entrypoint=["sleep", "1000"])["Id"]
        api.remove_container(own)
    finally:
        for container in (theirs, unlabelled):
            neighbour.remove_container(container, force=True)
        neighbour.remove_volume(volume)


def _interfaces() -> dict[str, list[str]]:
    """IP addresses by interface, without what comes and goes with containers of others."""
    found = psutil.net_if_addrs()
    return {
        name: [
            each.address
            for each in found[name]
            if each.family != psutil.AF_LINK and not each.address.startswith("fe80:")
        ]
        for name in found
        if not name.startswith("veth")
    }


def test_an_engine_of_the_tests_own_leaves_the_machine_s_alone(api: APIClient, runner_image: str) -> None:
    interfaces, networks = _interfaces(), [network["Id"] for network in api.networks()]
    running = api.create_container(runner_image, entrypoint=["sleep", "1000"])["Id"]
    api.start(running)
    try:
        with private_engine() as second:
            assert _interfaces() == interfaces
            client = second.client()
            assert client.containers(all=True) == []  # it sees nothing of the first one's
            client.close()
            second.stop()
            second.start().close()
        assert _interfaces() == interfaces
        assert set(networks) <= {network["Id"] for network in api.networks()}
        assert api.inspect_container(running)["State"]["Running"]
    finally:
        api.remove_container(running, force=True)
