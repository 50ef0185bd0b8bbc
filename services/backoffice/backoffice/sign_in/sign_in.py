"""Signing in, staying signed in, signing out: the story over `issuer`, `attempt` and `renewal`."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import jwt

from backoffice.settings import Settings
from backoffice.sign_in.attempt import Attempt
from backoffice.sign_in.issuer import Issuer, IssuerUnusable, SessionEnded, TokenSet, unusable
from backoffice.sign_in.renewal import Renewals
from chassis.edge.auth import Caller
from chassis.edge.tokens import Tokens
from chassis.problems import Problem, Unavailable
from chassis.sealing import SealBroken, Sealer

_MOST_COOKIE = 3900  # bytes; browsers drop cookies of more than 4096 with their name and attributes


@dataclass(frozen=True, kw_only=True)
class Session:
    """`cookie` is the refresh token, sealed; everything else is for the page."""

    access_token: str
    expires_at: datetime
    caller: Caller
    cookie: str


class SignIn:
    def __init__(
        self, *, settings: Settings, issuer: Issuer, renewals: Renewals, tokens: Tokens, sealer: Sealer
    ) -> None:
        self._settings = settings
        self._issuer = issuer
        self._renewals = renewals
        self._tokens = tokens
        self._sealer = sealer

    @property
    def redirect_uri(self) -> str:
        return f"{self._settings.public_url}/auth/callback"

    async def address(self, attempt: Attempt, *, another: bool) -> str:
        """Where the person signs in. Raises Unavailable, IssuerUnusable."""
        known = await self._issuer.discovery()
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": self._settings.sign_in_scope,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
            **self._settings.sign_in_parameters,
        }
        if another:
            asked["prompt"] = " ".join(["login", *asked.get("prompt", "").replace("login", "").split()])
        joint = "&" if "?" in known.authorization_endpoint else "?"
        return f"{known.authorization_endpoint}{joint}{urlencode(asked)}"

    async def complete(self, attempt: Attempt, *, code: str, iss: str | None) -> Session:
        """Raises SessionEnded where the code is good no more, Unavailable, IssuerUnusable."""
        if iss not in {None, self._settings.auth_issuer}:  # RFC 9207: another issuer's code is not for this one's eyes
            raise SessionEnded
        granted = await self._issuer.exchange(code, verifier=attempt.verifier, redirect_uri=self.redirect_uri)
        await self._issuer.verify(granted.id_token or "", nonce=attempt.nonce)
        return await self._session(granted)

    async def renew(self, cookie: str) -> Session:
        """Raises SessionEnded where it is no cookie of ours, or the issuer has ended the session; Unavailable;
        IssuerUnusable."""
        return await self._session(await self._renewals.renew(self._refresh_token(cookie)))

    async def end(self, cookie: str) -> str:
        """Revokes what it can; where the browser goes next, to end the issuer's own session too."""
        home = f"{self._settings.public_url}/"
        try:
            await self._issuer.revoke(self._refresh_token(cookie))
            end_session = (await self._issuer.discovery()).end_session_endpoint
        except (SessionEnded, Unavailable, IssuerUnusable):
            return home
        if end_session is None:
            return home
        asked = {"client_id": self._settings.client_id, "post_logout_redirect_uri": home}
        return f"{end_session}{'&' if '?' in end_session else '?'}{urlencode(asked)}"

    def _refresh_token(self, cookie: str) -> str:
        try:
            return self._sealer.open(cookie)
        except SealBroken:
            raise SessionEnded from None

    async def _session(self, granted: TokenSet) -> Session:
        """Raises IssuerUnusable where the services would not take the access token, or nothing renews it."""
        try:
            caller = await self._tokens.caller(f"Bearer {granted.access_token}")
        except Problem as refused:
            if refused.status >= 500:
                raise
            raise unusable(f"access-token: {refused.detail}") from None
        if granted.refresh_token is None:
            raise unusable("no-refresh-token")
        cookie = self._sealer.seal(granted.refresh_token)
        if len(cookie) > _MOST_COOKIE:
            raise unusable("refresh-token-too-long")
        claims: dict[str, Any] = jwt.decode(granted.access_token, options={"verify_signature": False})  # it was, above
        return Session(
            access_token=granted.access_token,
            expires_at=datetime.fromtimestamp(claims["exp"], UTC),
            caller=caller,
            cookie=cookie,
        )
