"""A request's body: no larger, no slower and in no other coding than a service takes."""

import asyncio
import contextlib
import time
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.edge.rules import OF_DAPR
from chassis.problems import not_plain_json

_LONGEST_LENGTH = 18  # digits of a Content-Length that are looked at

_DISCARDED_BODIES = 8  # so many times the limit is read and thrown away, for the sake of an answer; more is hung up on

# Of what Dapr itself delivers: twice what a sidecar takes in (4 MiB). It would deliver what we refuse again for ever.
_DELIVERED = 8 * 2**20

_PLAIN = {b"", b"identity"}


class BodyLimit:
    """Refuses a body that is too large, too slow in coming, or packed."""

    def __init__(
        self, app: ASGIApp, *, max_bytes: int, seconds: float, by_route: Mapping[str, tuple[int, float]]
    ) -> None:
        self._app = app
        self._most = (max_bytes, seconds)
        self._by_route = by_route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding", b"").lower() not in _PLAIN:
            raise not_plain_json()
        most, seconds = self._by_route.get(scope.get("rule", ""), self._most)
        if scope["path"].startswith(OF_DAPR):
            most = _DELIVERED
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared[:_LONGEST_LENGTH]) > most:
            await _discard(receive, up_to=_DISCARDED_BODIES * most, within=seconds)
            raise _too_large()
        await self._app(scope, self._counted(receive, most, seconds), send)

    def _counted(self, receive: Receive, most: int, seconds: float) -> Receive:
        seen, whole, deadline = 0, False, time.monotonic() + seconds

        async def counting() -> Message:
            nonlocal seen, whole
            if whole:  # what is awaited now is the caller's hanging up, however late
                return await receive()
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "Body too slow", headers={"Connection": "close"}) from None
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > most:
                raise _too_large()
            return message

        return counting


def _too_large() -> HTTPException:
    """An HTTPException: anything else raised while FastAPI reads a body becomes a 400."""
    return HTTPException(413, "Body too large", headers={"Connection": "close"})


async def _discard(receive: Receive, *, up_to: int, within: float) -> None:
    """Read what is still coming: a connection closed over unread bytes is reset, and the answer with it."""
    seen = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            while seen <= up_to:
                message = await receive()
                seen += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
