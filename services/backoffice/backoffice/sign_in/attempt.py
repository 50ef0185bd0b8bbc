"""A sign-in under way: what has to come back with the browser, sealed in a cookie of its own, for ten minutes.

A cookie for each attempt: two tabs may be on their way to the issuer at once.
"""

import base64
import hashlib
import hmac
import re
import time
from secrets import token_urlsafe

from pydantic import BaseModel, ValidationError

from chassis.sealing import SealBroken, Sealer

SECONDS = 600
_STATE = re.compile(r"[A-Za-z0-9_-]{43}")
_OWN_PATH = re.compile(r"/(?!/)[!-\[\]-~]{0,1023}")  # no backslash: to a browser it is a slash


class WrongState(Exception):
    """The answer belongs to no attempt of this browser's: it was used, is too old, or is somebody else's."""


class Attempt(BaseModel):
    """`verifier` is PKCE's (RFC 7636), `nonce` ties the ID token to this attempt, `to` is where the person goes."""

    state: str
    verifier: str
    nonce: str
    to: str
    ends: float

    @classmethod
    def new(cls, to: str) -> "Attempt":
        return cls(
            state=token_urlsafe(32),
            verifier=token_urlsafe(48),
            nonce=token_urlsafe(32),
            to=to,
            ends=time.time() + SECONDS,
        )

    @property
    def challenge(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()


def is_own_path(to: str) -> bool:
    """Whether it leads to one of our own pages, and nowhere else."""
    return _OWN_PATH.fullmatch(to) is not None


def cookie_name(state: str) -> str:
    return f"brewline-sign-in-{state[:8]}"


def sealed(attempt: Attempt, sealer: Sealer) -> str:
    return sealer.seal(attempt.model_dump_json())


def opened(state: str, cookies: dict[str, str], sealer: Sealer) -> Attempt:
    """Raises WrongState."""
    if not _STATE.fullmatch(state) or (cookie := cookies.get(cookie_name(state))) is None:
        raise WrongState
    try:
        attempt = Attempt.model_validate_json(sealer.open(cookie))
    except (SealBroken, ValidationError):
        raise WrongState from None
    if not hmac.compare_digest(attempt.state, state) or attempt.ends < time.time():
        raise WrongState
    return attempt
