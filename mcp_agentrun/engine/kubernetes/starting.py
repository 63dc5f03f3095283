"""The start of a Pod: what the cluster does until its container runs, and why it can't."""

from __future__ import annotations

from contextlib import aclosing
from typing import NoReturn

import anyio
from lightkube.models.core_v1 import ContainerState, ContainerStateTerminated, PodStatus
from lightkube.resources.core_v1 import Pod

from ...errors import EngineError, ImageError
from .cluster import Cluster, one_line
from .pod import CONTAINER

__all__ = ["START_SECONDS", "describe_end", "phase_of", "wait_until"]

START_SECONDS = 180.0
"""Longest time from a Pod's creation until its container runs: nodes may have to pull the image."""

_SCHEDULE_SECONDS = 30.0
"""Longest time for which no node has capacity: calls wait little longer, and are to read the reason."""

_PULL_FAILURES = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_FAILURES = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff")


async def wait_until(cluster: Cluster, name: str, *phases: str) -> Pod:
    """Wait until the Pod *name* has one of these *phases*, and return it.

    :raises ImageError: its image can't be pulled.
    :raises EngineError: it can't be scheduled or started, has ended too soon, or the API server failed.
    """
    unscheduled = "it has not been scheduled"
    schedule = anyio.CancelScope(deadline=anyio.current_time() + _SCHEDULE_SECONDS)
    async with aclosing(cluster.watch(name)) as states:
        with anyio.move_on_after(START_SECONDS), schedule:
            async for pod in states:
                if pod is None:
                    raise EngineError("The sandbox was deleted in the cluster while it started. Call again.")
                if phase_of(pod) in phases:
                    return pod
                _raise_failure(pod)
                unscheduled = _unscheduled(pod) or unscheduled
                if pod.spec and pod.spec.nodeName:
                    schedule.deadline = float("inf")
    if schedule.cancelled_caught:
        raise EngineError(f"The cluster has no node for the sandbox: {unscheduled}. Call again later.")
    raise EngineError(f"The cluster did not start the sandbox within {START_SECONDS:.0f} seconds. Call again.")


def phase_of(pod: Pod) -> str:
    """Return the phase of *pod*: Pending, Running, Succeeded, Failed or Unknown. It ends with its sandbox, although
    another of its containers may run for a while.
    """
    ended = _end(pod)
    if ended is not None:
        return "Failed" if ended.exitCode else "Succeeded"
    return (pod.status and pod.status.phase) or "Pending"


def _end(pod: Pod) -> ContainerStateTerminated | None:
    """Return how the sandbox's container has ended, None if it has not."""
    for container in (pod.status or PodStatus()).containerStatuses or ():
        if container.name == CONTAINER:
            return container.state and container.state.terminated
    return None


def describe_end(pod: Pod) -> str:
    """Return why *pod* has ended, as the cluster reports it; empty if it has not."""
    status = pod.status or PodStatus()
    if phase_of(pod) not in ("Succeeded", "Failed"):
        return ""
    if (ended := _end(pod)) is not None:
        reason = status.reason or ended.reason or "ended"
        return one_line(f"{reason} (exit code {ended.exitCode}) {ended.message or ''}")
    return one_line(f"{status.reason or 'ended'} {status.message or ''}")


def _raise_failure(pod: Pod) -> None:
    if end := describe_end(pod):
        raise EngineError(f"The sandbox ended in the cluster as soon as it was started: {end}. Call again.")
    containers = (pod.status or PodStatus()).containerStatuses or ()
    # The sandbox's first: of an image that failed for one, another only says that it is not tried again yet.
    for container in sorted(containers, key=lambda each: each.name != CONTAINER):
        waiting = (container.state or ContainerState()).waiting
        if waiting is not None and waiting.reason in _PULL_FAILURES:
            _raise_pull_failure(container.image, f"{waiting.reason}, {one_line(waiting.message or '')}")
        if waiting is not None and waiting.reason in _FAILURES:
            raise EngineError(
                f"The cluster can't start the sandbox: {waiting.reason}, {one_line(waiting.message or '')}. Call again."
            )


def _raise_pull_failure(image: str, reason: str) -> NoReturn:
    raise ImageError(
        f"The cluster can't pull the image {image}: {reason}. Push it with `mcp-agentrun image push`, name it in "
        "AGENTRUN_IMAGE, and name the registry's secrets in AGENTRUN_KUBERNETES_PULL_SECRETS."
    )


def _unscheduled(pod: Pod) -> str:
    """Return the scheduler's reason for not having found a node."""
    for condition in (pod.status or PodStatus()).conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return one_line(condition.message or condition.reason or "")
    return ""
