"""Faults of the parties that speak HTTP, applied before their handlers or to their answers."""

import asyncio
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.connection import hang_up, hung_up
from sandbox.faults import Fault, Faults
from sandbox.vendor import refusal


class FaultGate:
    """ASGI middleware. `paths` maps a party's path to its fault target; everything below the path belongs to it."""

    def __init__(self, app: ASGIApp, *, faults: Faults, paths: Mapping[str, str]) -> None:
        self._app = app
        self._faults = faults
        self._paths = tuple((path, f"{path}/", target) for path, target in paths.items())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one call, or doesn't."""
        target = self._target(scope) if scope["type"] == "http" else None
        # Only the answers to POSTs get lost: look-ups are how the caller finds out what became of them.
        fault = self._faults.strike(target, can_lose_reply=scope["method"] == "POST") if target else None
        if fault is None:
            await self._app(scope, receive, send)
        elif fault.mode == "timeout":
            await self._hold(receive, fault.delay)
            await hang_up(scope, receive)
        else:
            await self._hit(fault, scope, receive, send)

    async def _hit(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read_body(receive)
        if body is None:
            return
        if not await self._faults.pause(fault.delay):
            await hang_up(scope, receive)
            return
        match fault.mode:
            case "reset":
                await hang_up(scope, receive, reset=True)
            case "error":
                await refusal(fault.status or 503, "unavailable", "The service failed.")(scope, receive, send)
            case "throttle":
                refused = refusal(fault.status or 429, "rate_limited", "Too many requests.")
                refused.headers["retry-after"] = "1"
                await refused(scope, receive, send)
            case "lost-reply":
                await self._app(scope, _Again(body, receive), _into_the_void)
                await hang_up(scope, receive)
            case _:
                await self._app(scope, _Again(body, receive), send)

    async def _hold(self, receive: Receive, seconds: float) -> None:
        """Until the time is over, the caller has hung up or the sandbox stops."""
        ends = {asyncio.ensure_future(self._faults.pause(seconds)), asyncio.ensure_future(_gone(receive))}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

    def _target(self, scope: Scope) -> str | None:
        path: str = scope["path"]
        for own, below, target in self._paths:
            if path == own or path.startswith(below):
                return target
        return None


class _Again:
    """Receives a body that has been read already. Work that was slow is done even if the caller has given up."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _read_body(receive: Receive) -> bytes | None:
    """The whole body; None when the caller hung up before its end."""
    parts: list[bytes] = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
    return None


async def _gone(receive: Receive) -> bool:
    await hung_up(receive)
    return True


async def _into_the_void(_: Message) -> None:
    pass
