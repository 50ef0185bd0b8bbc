"""The link to an export's file: whoever has it gets the file, without signing in, until it expires."""

import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta

from backoffice.domain import LinkExpired, LinkForged
from chassis.ids import now

VALID = timedelta(hours=24)

_SHORTEST_KEY = 32  # bytes: as long as the hash (RFC 2104, 3)


class Links:
    """`public_url` is where this service is reached from outside, such as `https://api.brewline.example`."""

    def __init__(self, public_url: str) -> None:
        self._base = f"{public_url.rstrip('/')}/api/v1/exports"
        self._keys: Sequence[bytes] = ()

    def unlock(self, keys: str) -> None:
        """Comma-separated, newest first: that one signs, all are believed. Raises ValueError for a short one."""
        self._keys = [key.strip().encode() for key in keys.split(",") if key.strip()]
        if any(len(key) < _SHORTEST_KEY for key in self._keys):
            raise ValueError(f"a key needs {_SHORTEST_KEY} bytes")

    def make(self, job_id: str) -> tuple[str, datetime]:
        """A link to the job's file, and when it expires."""
        expires = now() + VALID
        at = int(expires.timestamp())
        return f"{self._base}/{job_id}/file?expires={at}&signature={_sign(self._keys[0], job_id, at)}", expires

    def check(self, job_id: str, *, expires: int, signature: str) -> None:
        """Raises LinkForged or LinkExpired."""
        given = signature.encode()
        if not any(hmac.compare_digest(_sign(key, job_id, expires).encode(), given) for key in self._keys):
            raise LinkForged
        if expires < now().timestamp():
            raise LinkExpired


def _sign(key: bytes, job_id: str, expires: int) -> str:
    return hmac.digest(key, f"export {job_id} {expires}".encode(), "sha256").hex()
