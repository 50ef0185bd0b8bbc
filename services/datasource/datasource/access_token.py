"""An access token of a source: OAuth 2.0 client credentials (RFC 6749, 4.4), through the sidecar.

By hand and not by Authlib: its asynchronous clients bring a transport of their own, which would go past the sidecar
and its policies; and they ask for as many tokens as there are callers when one runs out.
"""

import asyncio
from collections.abc import Mapping
from time import monotonic

from pydantic import BaseModel, Field, ValidationError

from chassis.sidecar import Answer, Sidecar
from datasource.busy import raise_if_busy
from datasource.domain import SourceFailed
from datasource.settings import Source

SCOPE = "api.read api.write"
_EARLY = 300.0  # seconds before its end at which it is no longer used, or
_SHARE = 0.1  # this share of its life, where that is less


class _Granted(BaseModel):
    access_token: str = Field(min_length=1, repr=False)
    expires_in: int = Field(default=60, ge=1)  # RFC 6749 only recommends that it is said


class Token:
    """Cached until min(5 minutes, a tenth of its life) before its end; whoever needs one meanwhile waits for the one
    that is asked for. `secrets` holds the source's by the time of the first call."""

    def __init__(self, sidecar: Sidecar, source: Source, secrets: Mapping[str, str]) -> None:
        self._sidecar = sidecar
        self._source = source
        self._secrets = secrets
        self._asking = asyncio.Lock()
        self._value = ""
        self._until = 0.0

    async def get(self) -> str:
        """Raises SourceFailed where none is granted, and Busy while the source has no time for that."""
        async with self._asking:
            if monotonic() >= self._until:
                asked = monotonic()
                granted = _read(await self._ask())
                life = granted.expires_in
                self._value, self._until = granted.access_token, asked + life - min(_EARLY, _SHARE * life)
            return self._value

    def forget(self, value: str) -> None:
        """The source has refused it: the next call asks for another one, unless somebody has already."""
        if self._value == value:
            self._until = 0.0

    async def _ask(self) -> Answer:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._source.client_id,
            "client_secret": self._secrets[self._source.secret],
            "scope": SCOPE,
        }
        return await self._sidecar.invoke(f"{self._source.endpoint}-token", "oauth/token", form=form, private=True)


def _read(answer: Answer) -> _Granted:
    raise_if_busy(answer)
    if answer.from_sidecar:
        raise SourceFailed("The source's token endpoint can't be reached.")
    if not 200 <= answer.status < 300:
        raise SourceFailed(f"The source grants us no token ({answer.status}).")
    try:
        return _Granted.model_validate(answer.data)
    except ValidationError:
        raise SourceFailed("The source's token can't be read.") from None
