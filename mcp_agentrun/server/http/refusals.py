"""Requests that are refused in front of the endpoints: audited, and answered with problem details on REST routes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...audit import Trail, refused_request
from ..principals import principal_of
from ..rest.app import interface_of, is_rest
from ..rest.problems import PROBLEM_TYPE, in_front_problem
from .limits import TokenBuckets

__all__ = ["Refusal", "audited", "refusals_reported"]


@dataclass(frozen=True)
class Refusal:
    """Why a request was refused before an endpoint received it.

    :param reason: one word for programs.
    :param detail: for people, without anything that the request contains.
    """

    status: int
    reason: str
    detail: str


_REFUSALS = {
    each.status: each
    for each in (
        Refusal(401, "token", "Send `Authorization: Bearer TOKEN` with a valid token."),
        Refusal(403, "origin", "The Origin is not one that this server allows."),
        Refusal(408, "slow", "The body was sent too slowly."),
        Refusal(413, "body", "The body is larger than this server's limit."),
        Refusal(421, "host", "The Host is not a name of this server."),
        Refusal(429, "rate", "Too many requests. Wait for as many seconds as Retry-After says."),
        Refusal(503, "shutdown", "The server is shutting down."),
    )
}
_SCOPE = Refusal(403, "scope", "The token lacks a scope that this server requires.")

_RECORDED_PER_SECOND = 0.2
_RECORDED_AT_ONCE = 60
"""Refusals of one address that are recorded one by one, so that nobody without a token can fill the disk."""


def audited(trail: Trail | None) -> Callable[[Scope, Refusal], None]:
    """Return what records refusals in *trail*, as far as one address may have them recorded."""
    buckets = TokenBuckets(_RECORDED_PER_SECOND, _RECORDED_AT_ONCE)

    def report(scope: Scope, refusal: Refusal) -> None:
        if trail is None:
            return
        address: str = (scope.get("client") or ("",))[0]
        if buckets.take(address):
            trail.omit()
            return
        who, interface = principal_of(scope), interface_of(scope["path"])
        trail.add(refused_request(who, interface, address, reason=refusal.reason, detail=refusal.detail))

    return report


def refusals_reported(app: ASGIApp, report: Callable[[Scope, Refusal], object]) -> ASGIApp:
    """Wrap *app* so that *report* receives each refusal, and clients of REST get it as problem details."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        is_replaced = False

        async def watched(message: Message) -> None:
            nonlocal is_replaced
            if is_replaced:
                return
            refusal = _refusal(scope, message) if message["type"] == "http.response.start" else None
            if refusal is None:
                await send(message)
                return
            report(scope, refusal)
            if not is_rest(scope["path"]):
                await send(message)
                return
            is_replaced = True
            headers = MutableHeaders(raw=message["headers"])
            del headers["Content-Length"], headers["Content-Type"]
            answer = in_front_problem(refusal.status, refusal.reason, refusal.detail, dict(headers))
            await answer(scope, receive, send)

        await app(scope, receive, watched if scope["type"] == "http" else send)

    return wrapped


def _refusal(scope: Scope, start: Message) -> Refusal | None:
    """Return why a response is a refusal, or None if it is none, or one by an endpoint, which has its own problem."""
    status: int = start["status"]
    if status not in _REFUSALS or (status == 503 and not is_rest(scope["path"])):  # as it is of /readyz
        return None
    headers = Headers(raw=start["headers"])
    if headers.get("content-type") == PROBLEM_TYPE:
        return None
    return _SCOPE if status == 403 and "www-authenticate" in headers else _REFUSALS[status]
