"""Who signs in by a browser: authorization codes with PKCE (RFC 6749, RFC 7636), and refresh tokens that rotate."""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from secrets import token_urlsafe
from typing import NamedTuple

from sandbox.issuer import Holder
from sandbox.records import utc_now

NAMES = {"user": "ada", "staff": "sam", "admin": "alex"}  # whoever gives none
_CODE_LIVES = timedelta(minutes=1)
_REFRESH_LIVES = timedelta(days=30)
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_MOST = 10_000  # sign-ins remembered


class Request(NamedTuple):
    """An authorization request whose redirect_uri is one of ours; `error` is what the client is told in place of a
    code."""

    client_id: str
    redirect_uri: str
    state: str
    nonce: str
    scope: str
    challenge: str
    error: str


@dataclass(kw_only=True)
class SignIn:
    """What a code stands for, and then the chain of refresh tokens that come from it: `refresh` is the good one."""

    holder: Holder
    request: Request
    begun: datetime
    redeemed: bool = False
    ended: bool = False
    refresh: str = field(default="", repr=False)


class Refused(Exception):
    """An error of RFC 6749, section 5.2: `invalid_grant` unless it is another."""

    def __init__(self, description: str, error: str = "invalid_grant") -> None:
        super().__init__(description)
        self.error = error
        self.description = description


def read_request(query: Mapping[str, str], *, pages_url: str) -> Request | str:
    """The request, or what is wrong where the person can't be sent back: to an address that isn't known."""
    redirect_uri = query.get("redirect_uri", "")
    if not redirect_uri.startswith(f"{pages_url}/"):
        return f"redirect_uri has to be below {pages_url}/ (SANDBOX_PAGES_URL)."
    if not re.fullmatch("[ -~]{1,255}", query.get("client_id", "")):
        return "client_id is missing."
    return Request(
        client_id=query["client_id"],
        redirect_uri=redirect_uri,
        state=query.get("state", ""),
        nonce=query.get("nonce", ""),
        scope=query.get("scope", ""),
        challenge=query.get("code_challenge", ""),
        error=_error_of(query),
    )


def _error_of(query: Mapping[str, str]) -> str:
    if query.get("response_type") != "code":
        return "unsupported_response_type"
    if "openid" not in query.get("scope", "").split():
        return "invalid_scope"
    with_pkce = query.get("code_challenge_method") == "S256" and _CHALLENGE.fullmatch(query.get("code_challenge", ""))
    return "" if with_pkce else "invalid_request"


class SignIns:
    """All of this process: who restarts it has everybody sign in again."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._by_code: dict[str, SignIn] = {}
        self._by_refresh: dict[str, SignIn] = {}

    def code(self, request: Request, holder: Holder) -> str:
        """Good once, and for a minute."""
        code = token_urlsafe(32)
        _remember(self._by_code, code, SignIn(holder=holder, request=request, begun=self._clock()))
        return code

    def redeem(self, form: Mapping[str, str], *, client_id: str) -> SignIn:
        """With its first refresh token. Raises Refused; a code that comes twice also ends what it had begun."""
        sign_in = self._by_code.get(form.get("code", ""))
        if sign_in is None or self._clock() - sign_in.begun > _CODE_LIVES:
            raise Refused("There is no such code, or it is too old.")
        if sign_in.redeemed:
            sign_in.ended = True
            raise Refused("The code was used before.")
        sign_in.redeemed = True
        if (client_id, form.get("redirect_uri")) != (sign_in.request.client_id, sign_in.request.redirect_uri):
            raise Refused("The code was made for another client or redirect_uri.")
        if not _proves(form.get("code_verifier", ""), sign_in.request.challenge):
            raise Refused("code_verifier is not what code_challenge was made of.")
        return self._rotated(sign_in)

    def renew(self, form: Mapping[str, str], *, client_id: str) -> SignIn:
        """With another refresh token. Raises Refused; one that comes twice ends all that came from it (RFC 9700)."""
        token = form.get("refresh_token", "")
        sign_in = self._by_refresh.get(token)
        if sign_in is None or sign_in.ended or self._clock() - sign_in.begun > _REFRESH_LIVES:
            raise Refused("There is no such refresh token, or it is good no more.")
        if client_id != sign_in.request.client_id:
            raise Refused("The refresh token is another client's.")
        if token != sign_in.refresh:
            sign_in.ended = True
            raise Refused("The refresh token was used before: all that came from it has ended.")
        return self._rotated(sign_in)

    def revoke(self, token: str) -> None:
        """RFC 7009: whatever isn't known is no error."""
        if (sign_in := self._by_refresh.get(token)) is not None:
            sign_in.ended = True

    def _rotated(self, sign_in: SignIn) -> SignIn:
        sign_in.refresh = token_urlsafe(32)
        _remember(self._by_refresh, sign_in.refresh, sign_in)
        return sign_in


def _proves(verifier: str, challenge: str) -> bool:
    digest = hashlib.sha256(verifier.encode()).digest()
    made = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return bool(_VERIFIER.fullmatch(verifier)) and hmac.compare_digest(made, challenge)


def _remember(known: dict[str, SignIn], name: str, sign_in: SignIn) -> None:
    while len(known) >= _MOST:
        del known[next(iter(known))]
    known[name] = sign_in
