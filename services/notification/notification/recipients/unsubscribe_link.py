"""One-click unsubscription (RFC 8058): a signed link says whose messages of which kind are to end, and nothing is
stored for it. It never expires: what was mailed years ago must still work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jwt
from pydantic import TypeAdapter

from notification.domain import ChannelName, SignedLink
from notification.recipients.preferences import Category

_ALGORITHM = "HS256"
_LONGEST = 2048
_SHORTEST_KEY = 32  # RFC 7518, 3.2
_CATEGORY: TypeAdapter[str] = TypeAdapter(Category)
_CLAIMS = ["t", "r", "n", "c"]  # tenant, recipient, channel, category; short, for a header line holds 998 characters


class Forged(Exception):
    """The link is not one of ours."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a link ends."""

    tenant: str
    recipient_id: str
    channel: ChannelName
    category: str


class Unsubscribing:
    """`base_url` is where this service is reached from outside, such as `https://api.brewline.example`."""

    def __init__(self, base_url: str) -> None:
        self._url = f"{base_url.rstrip('/')}/api/v1/unsubscribe?token="
        self._keys: Sequence[str] = ()

    def unlock(self, keys: str) -> None:
        """Comma-separated, newest first: that one signs, all are believed. Raises ValueError for a short one."""
        self._keys = [key.strip() for key in keys.split(",") if key.strip()]
        if any(len(key.encode()) < _SHORTEST_KEY for key in self._keys):
            raise ValueError(f"a key needs {_SHORTEST_KEY} bytes")

    def link(self, tenant: str, recipient_id: str, channel: ChannelName, category: str) -> SignedLink:
        claims = {"t": tenant, "r": recipient_id, "n": channel, "c": category}
        return SignedLink(self._url, jwt.encode(claims, self._keys[0], algorithm=_ALGORITHM))

    def read(self, token: str) -> Subscription:
        """Raises Forged."""
        for key in self._keys:
            try:
                return _verified(token, key)
            except (jwt.PyJWTError, ValueError, RecursionError):
                continue
        raise Forged

    @staticmethod
    def headers(link: str) -> Mapping[str, str]:
        """Of the e-mail, by which mail programs show a button of their own."""
        return {"List-Unsubscribe": f"<{link}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}


def _verified(token: str, key: str) -> Subscription:
    if len(token) > _LONGEST:
        raise ValueError("too long")
    claims = jwt.decode(token, key, algorithms=[_ALGORITHM], options={"require": _CLAIMS})
    # Kept as a wish, what is no category could not be read again.
    return Subscription(claims["t"], claims["r"], ChannelName(claims["n"]), _CATEGORY.validate_python(claims["c"]))
