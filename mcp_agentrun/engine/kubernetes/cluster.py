"""The connection to a cluster's API server, and what its errors mean for whoever reads them."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from typing import Any, cast

import anyio
import httpx2
from lightkube import AsyncClient, KubeConfig
from lightkube.config.client_adapter import ConnectionParams
from lightkube.config.kubeconfig import SingleConfig
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.operators import not_equal
from lightkube.resources.core_v1 import Pod

from ...errors import EngineError
from ...settings.kubernetes import KubernetesSettings

__all__ = ["Cluster", "one_line"]

_TIMEOUT = httpx2.Timeout(15.0)
_RETRY_SECONDS = 1.0
_MOST_FAILURES = 20


class Cluster:
    """A namespace of a cluster, as the kubeconfig or the server's own Pod describes it.

    :raises EngineError: there is no such description.
    """

    def __init__(self, settings: KubernetesSettings) -> None:
        config = _configuration(settings.context)
        self.address = config.cluster.server
        self.namespace = settings.namespace or config.namespace
        parameters: dict[str, Any] = cast("Any", ConnectionParams(timeout=_TIMEOUT)).httpx_params(config)
        # Every stream to a Pod and every watch keeps a connection, so their number must not be limited.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
        parameters["transport"] = transport = httpx2.AsyncHTTPTransport(verify=parameters["verify"], limits=limits)
        self.http = httpx2.AsyncClient(**parameters)
        self._api: Any = AsyncClient(config, namespace=self.namespace, timeout=_TIMEOUT, transport=transport)

    @contextmanager
    def reporting_errors(self) -> Generator[None]:
        """Convert what the client raises.

        :raises EngineError: the API server refused, or can't be reached.
        """
        try:
            yield
        except httpx2.HTTPStatusError as error:
            raise EngineError(self._refusal(error)) from error
        except ConfigError as error:  # of a program that the kubeconfig names for credentials
            raise EngineError(f"The kubeconfig's credentials can't be used: {one_line(str(error))}") from error
        except (httpx2.HTTPError, OSError) as error:
            raise EngineError(
                f"The Kubernetes API server {self.address} can't be reached ({one_line(str(error)) or 'no answer'}). "
                "Call again later."
            ) from error

    def _refusal(self, error: httpx2.HTTPStatusError) -> str:
        code = _code(error) or 0
        message = one_line(error.status.message or "" if isinstance(error, ApiError) else str(error))
        if code == 401:
            return f"The Kubernetes API server {self.address} does not accept the server's credentials. Renew them."
        if code == 403 and "quota" in message:
            return (
                f"The quota of the namespace {self.namespace} is used up: {message}. Call again when a sandbox has "
                "been closed, or ask the cluster's operator for more."
            )
        if code == 403 and "is forbidden: User" in message:
            return (
                f"The server's account lacks a right in the cluster: {message}. docs/guides/kubernetes.md lists them."
            )
        if code == 404 and "namespaces" in message:
            return f"The cluster has no namespace {self.namespace}. Create it, or set AGENTRUN_KUBERNETES_NAMESPACE."
        if code >= 500 or code == 429:
            return f"The Kubernetes API server failed: {message}. Call again later."
        return f"Kubernetes refused: {message}"

    async def create(self, pod: Pod) -> None:
        """Create *pod*.

        :raises EngineError: the API server refused, or can't be reached.
        """
        with self.reporting_errors():
            await self._api.create(pod)

    async def pods(self, label: str, value: str | None = None, *, running: bool = True) -> list[Pod]:
        """Return the Pods that have *label*.

        :param value: of the label; None for any.
        :param running: include those that run, which may be thousands.
        :raises EngineError: the API server refused, or can't be reached.
        """
        phase = None if running else {"status.phase": not_equal("Running")}
        with self.reporting_errors():
            return [pod async for pod in self._api.list(Pod, labels={label: value}, fields=phase)]

    async def watch(self, name: str) -> AsyncGenerator[Pod | None]:
        """Yield the Pod *name* as it is now and after each change, and None when it has been deleted. A watch that is
        lost begins anew.

        :raises EngineError: the API server refused, or can't be reached for a while.
        """
        failures = 0
        while True:
            try:
                with self.reporting_errors():
                    async with aclosing(self._api.watch(Pod, fields={"metadata.name": name})) as events:
                        async for event, pod in events:
                            failures = 0
                            yield None if event == "DELETED" else pod
            except EngineError as error:
                failures += 1
                code = _code(error.__cause__)
                if failures > _MOST_FAILURES or (code in range(400, 500) and code not in (410, 429)):
                    raise
            await anyio.sleep(_RETRY_SECONDS)

    async def remove(self, pod: str) -> None:
        """Remove a Pod, if it exists, without waiting for its containers.

        :raises EngineError: the API server refused, or can't be reached.
        """
        try:
            with self.reporting_errors():
                await self._api.delete(Pod, pod, grace_period=0)
        except EngineError as error:
            if _code(error.__cause__) != 404:
                raise

    async def aclose(self) -> None:
        await self._api.close()
        await self.http.aclose()


def _configuration(context: str | None) -> SingleConfig:
    try:
        config = KubeConfig.from_env() if context is None else KubeConfig.from_file(_file())
        chosen = config.get(context)
    except Exception as error:  # whatever is wrong with a file that anybody may have written
        raise EngineError(
            f"No Kubernetes cluster is configured: {one_line(str(error))}. Set KUBECONFIG to a kubeconfig file, or run "
            "the server in the cluster."
        ) from error
    assert chosen is not None  # without a default, `get` raises
    return chosen


def _file() -> str:
    return os.environ.get("KUBECONFIG") or "~/.kube/config"


def _code(error: BaseException | None) -> int | None:
    """Return the status code of the API server's answer that *error* is about; None if there was none."""
    if isinstance(error, ApiError):
        return error.status.code
    return error.response.status_code if isinstance(error, httpx2.HTTPStatusError) else None


def one_line(text: str) -> str:
    """Return *text* in one line of at most 500 characters, without a period at its end."""
    return " ".join(text.split())[:500].rstrip(".")
