"""One installation, from the request to its result."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import anyio
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ..engine import Report
from ..engine.network import NetworkSettings
from ..errors import InstallError, SandboxLostError
from ..wire import messages
from .installed import Installed
from .known import ALTERNATIVES
from .multiplexer import Request
from .pins import requirement_line
from .policy import Policy

__all__ = ["Installation"]

_STOP_SECONDS = 20.0


class Installation:
    """Requirements that the installer resolves together, has approved here, and installs for one sandbox.

    :param sandbox: id of the sandbox.
    :param trusted: those of *requirements* that come from the operator, which the policy does not judge.
    :param network: where packages are fetched, and the secrets that no answer may contain.
    :param report: called with what the installer is doing.
    """

    def __init__(
        self,
        request: Request,
        sandbox: str,
        requirements: Sequence[str],
        *,
        policy: Policy,
        trusted: Collection[str],
        network: NetworkSettings,
        report: Report,
    ) -> None:
        self._request = request
        self._sandbox = sandbox
        self._requirements = requirements
        self._policy = policy
        self._trusted = trusted
        self._network = network
        self._report: Report = report

    async def run(self, before: Mapping[str, str]) -> Installed:
        """Install. If this is cancelled, the installer stops, and has answered when this returns.

        :param before: what the sandbox has, version by name.
        :raises InstallError: the packages can't be resolved, approved or fetched.
        :raises SandboxLostError: the installer is lost.
        """
        await self._begin(before)
        try:
            done = await self._outcome()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._stop()
            raise
        return self._result(done)

    async def _begin(self, before: Mapping[str, str]) -> None:
        sources = messages.Sources(
            index_url=self._network.index_url,
            extra_index_urls=tuple(self._network.extra_index_urls),
            proxies=dict(self._network.proxies),
        )
        await self._request.send(
            messages.Install(
                request=self._request.number,
                sandbox=self._sandbox,
                requirements=tuple(self._requirements),
                constraints=self._policy.resolver_constraints(),
                before=dict(before),
                is_open=self._policy.is_open,
                sources=sources,
            )
        )

    async def _outcome(self) -> messages.InstallDone:
        while True:
            answer = await self._request.receive()
            if isinstance(answer, messages.InstallDone):
                if answer.sandbox != self._sandbox or answer.folder.split("/")[1:2] not in ([], [self._sandbox]):
                    self._request.fail("it installed for another sandbox")
                return answer
            if isinstance(answer, messages.Resolved):
                await self._answer_resolved(answer.pins)
            elif isinstance(answer, messages.InstallProgress):
                self._report(self._network.redact(answer.text))
            else:
                self._request.fail("it sent an answer to another question")

    async def _answer_resolved(self, pins: Mapping[str, str]) -> None:
        """Tell the installer whether it may fetch *pins*, and which hashes their files must have."""
        judged = [requirement for requirement in self._requirements if requirement not in self._trusted]
        refusal = self._policy.check_resolved(judged, pins)
        hashes = {
            requirement_line(name, version): self._policy.constraints.hashes_of(name, version)
            for name, version in pins.items()
        }
        await self._request.send(messages.Approved(request=self._request.number, refusal=refusal, hashes=hashes))

    async def _stop(self) -> None:
        """Stop the installation and receive its answer, so that it is not taken for the answer to another request. A
        lost installer sends none.
        """
        self._report = lambda _: None
        with anyio.move_on_after(_STOP_SECONDS) as scope:
            try:
                await self._request.send(messages.InstallCancel(request=self._request.number))
                await self._outcome()
            except SandboxLostError:
                return
        if scope.cancelled_caught:
            self._request.abandon("a stopped installation did not end")

    def _result(self, done: messages.InstallDone) -> Installed:
        """:raises InstallError: it failed."""
        if done.error is not None:
            raise InstallError(
                self._network.redact(done.error) + self._alternatives(done.error),
                requirements=tuple(self._requirements),
            )
        return Installed(
            done.folder,
            done.packages,
            done.satisfied,
            replaced=done.replaced,
            modules=done.modules,
            notes=tuple(map(self._network.redact, done.notes)),
        )

    def _alternatives(self, error: str) -> str:
        """Sentences that name packages to use instead of those that have no wheels."""
        names = {canonicalize_name(Requirement(text).name) for text in self._requirements if "wheels" in error}
        return "".join(
            f" Instead of {name!r}, use {ALTERNATIVES[name]}." for name in sorted(names & ALTERNATIVES.keys())
        )
