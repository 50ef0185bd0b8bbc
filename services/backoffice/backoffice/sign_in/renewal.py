"""One use of each refresh token, over all tabs and replicas.

Issuers end the whole session when a refresh token comes twice, for it may have been stolen. Two tabs that renew at once
send the same one, and so does a page that was left before the answer came. Whoever is first says so in the state store
and asks the issuer; what comes is kept there for a minute, sealed, for those who send the same token meanwhile.
"""

import asyncio
import contextlib
import hashlib
import time

from backoffice.sign_in.issuer import Issuer, IssuerUnusable, SessionEnded, TokenSet
from chassis.edge.tokens import ISSUER
from chassis.problems import Unavailable
from chassis.sealing import Sealer
from chassis.sidecar import Sidecar

_CLAIMED_SECONDS = 15  # of a replica that dies meanwhile; its issuer call is over long before
_KEPT_SECONDS = 60
_LOOK_EVERY = 0.1
_PATIENCE = 5.0  # seconds that one waits for another's
_UNDER_WAY, _FAILED, _ENDED = "under-way", "failed", "ended"


class Renewals:
    def __init__(self, *, sidecar: Sidecar, store: str, sealer: Sealer, issuer: Issuer) -> None:
        self._sidecar = sidecar
        self._store = store
        self._sealer = sealer
        self._issuer = issuer

    async def renew(self, refresh_token: str) -> TokenSet:
        """Raises SessionEnded, IssuerUnusable, and Unavailable where it can't be said now: it may be asked again."""
        name = f"sign-in:{hashlib.sha256(refresh_token.encode()).hexdigest()}"
        gives_up = time.monotonic() + _PATIENCE
        while not await self._claim(name):
            match (await self._sidecar.get_state(self._store, name))[0]:
                case str(found) if found not in {_UNDER_WAY, _FAILED, _ENDED}:
                    return TokenSet.model_validate_json(self._sealer.open(found))
                case str(found) if found == _ENDED:
                    raise SessionEnded
                case _ if time.monotonic() > gives_up:
                    raise Unavailable(ISSUER)
                case _:
                    await asyncio.sleep(_LOOK_EVERY)
        return await self._renew(name, refresh_token)

    async def _claim(self, name: str) -> bool:
        """Whether it is ours to ask: nobody has asked yet, or whoever did got no answer."""
        if await self._sidecar.insert_state(self._store, name, _UNDER_WAY, ttl_seconds=_CLAIMED_SECONDS):
            return True
        found, etag = await self._sidecar.get_state(self._store, name)
        return found == _FAILED and await self._put(name, _UNDER_WAY, etag, _CLAIMED_SECONDS)

    async def _renew(self, name: str, refresh_token: str) -> TokenSet:
        try:
            fresh = await self._issuer.renew(refresh_token)
        except SessionEnded:
            await self._settle(name, _ENDED)
            raise
        except (Unavailable, IssuerUnusable):
            await self._settle(name, _FAILED)
            raise
        await self._settle(name, self._sealer.seal(fresh.model_dump_json()))
        return fresh

    async def _settle(self, name: str, outcome: str) -> None:
        """What we have in hand counts, whether it could be kept for others or not."""
        with contextlib.suppress(Unavailable):
            _, etag = await self._sidecar.get_state(self._store, name)
            await self._put(name, outcome, etag, _KEPT_SECONDS)

    async def _put(self, name: str, value: str, etag: str, seconds: int) -> bool:
        """With the ETag: on Redis what was inserted can't be changed otherwise."""
        return await self._sidecar.update_state(self._store, name, value, etag, ttl_seconds=seconds)
