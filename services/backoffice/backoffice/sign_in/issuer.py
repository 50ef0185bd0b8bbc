"""The OpenID provider, asked through the sidecar: where its endpoints are, tokens for a code, new tokens, revocation.

Discovery and keys are read by the HTTPEndpoint `issuer`. Tokens come by `issuer-token`, which has the same address and
no retries: a code and a refresh token are good for one use, and asked for again they would end the session.
"""

import base64
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import quote_plus

import jwt
import structlog
from pydantic import BaseModel, ValidationError

from backoffice.settings import Settings
from chassis.edge.tokens import ISSUER, Keys
from chassis.problems import Unavailable
from chassis.sidecar import Answer, Sidecar

log = structlog.get_logger()

ISSUER_TOKEN = "issuer-token"  # noqa: S105  the HTTPEndpoint
_FRESH_SECONDS = 600.0
_LEEWAY_SECONDS = 5
_ERROR = re.compile(r"[a-z_]{1,40}")


class SessionEnded(Exception):
    """The issuer takes the code, or the refresh token, no more."""


class IssuerUnusable(Exception):
    """It answers, and can't be used: it, or what we are told of it, is set up otherwise. The log says what."""


class Discovery(BaseModel):
    """What we use of a provider's metadata (OpenID Connect Discovery 1.0)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    revocation_endpoint: str | None = None
    end_session_endpoint: str | None = None


class TokenSet(BaseModel):
    """A token endpoint's answer (RFC 6749, section 5.1)."""

    access_token: str
    refresh_token: str | None = None
    id_token: str | None = None


class Issuer:
    """`secrets` may have `client-secret`, for an issuer that takes us for a confidential client."""

    def __init__(
        self,
        *,
        sidecar: Sidecar,
        settings: Settings,
        keys: Keys,
        secrets: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sidecar = sidecar
        self._settings = settings
        self._keys = keys
        self._secrets = secrets
        self._clock = clock
        self._known: Discovery | None = None
        self._read_at = 0.0

    async def discovery(self) -> Discovery:
        """Raises Unavailable where it can't be had, IssuerUnusable where it is another issuer's."""
        if self._known is not None and self._clock() - self._read_at < _FRESH_SECONDS:
            return self._known
        answer = await self._sidecar.invoke(ISSUER, self._settings.discovery_path, verb="GET")
        if answer.status != 200:
            raise Unavailable(ISSUER)
        try:
            found = Discovery.model_validate(answer.data)
        except ValidationError:
            raise unusable("discovery") from None
        if found.issuer != self._settings.auth_issuer:
            raise unusable("another-issuer")
        self._known, self._read_at = found, self._clock()
        return found

    async def exchange(self, code: str, *, verifier: str, redirect_uri: str) -> TokenSet:
        """Raises SessionEnded, Unavailable, IssuerUnusable."""
        return await self._tokens(
            {
                "grant_type": "authorization_code",
                "code": code,
                "code_verifier": verifier,
                "redirect_uri": redirect_uri,
            }
        )

    async def renew(self, refresh_token: str) -> TokenSet:
        """New tokens for one that was used up by this. Raises SessionEnded, Unavailable, IssuerUnusable."""
        fresh = await self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})
        return fresh if fresh.refresh_token else fresh.model_copy(update={"refresh_token": refresh_token})

    async def revoke(self, refresh_token: str) -> None:
        """Where the issuer can; it is no reason to keep anybody signed in that it can't, or doesn't answer."""
        try:
            known = await self.discovery()
            if known.revocation_endpoint is not None:
                form = {"token": refresh_token, "token_type_hint": "refresh_token"}
                await self._post(known, known.revocation_endpoint, form)
        except (Unavailable, IssuerUnusable) as failed:
            log.warning("sign_in.not_revoked", error=type(failed).__name__)

    async def verify(self, id_token: str, *, nonce: str) -> None:
        """That it was made by the issuer, for us, for this attempt. Raises IssuerUnusable, Unavailable."""
        try:
            key = await self._keys.get(str(jwt.get_unverified_header(id_token).get("kid", "")))
            if key is None:
                raise unusable("id-token-key")
            claims: dict[str, Any] = jwt.decode(
                id_token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._settings.client_id,
                issuer=self._settings.auth_issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise unusable(f"id-token: {type(error).__name__}") from None
        if claims.get("nonce") != nonce:
            raise unusable("id-token-nonce")

    async def _tokens(self, form: dict[str, str]) -> TokenSet:
        known = await self.discovery()
        answer = await self._post(known, known.token_endpoint, form)
        if answer.status == 200:
            try:
                return TokenSet.model_validate(answer.data)
            except ValidationError:
                raise unusable("token-answer") from None
        if answer.from_sidecar or not 400 <= answer.status < 500 or answer.status in {408, 425, 429}:
            raise Unavailable(ISSUER)
        if (error := _error_of(answer)) == "invalid_grant":
            raise SessionEnded
        raise unusable(error)

    async def _post(self, known: Discovery, endpoint: str, form: Mapping[str, str]) -> Answer:
        """As a public client, or with our secret by HTTP Basic (RFC 6749, section 2.3.1)."""
        client_id, headers = self._settings.client_id, dict[str, str]()
        if secret := self._secrets.get("client-secret"):
            pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form = {**form, "client_id": client_id}
        return await self._sidecar.invoke(
            ISSUER_TOKEN, self._below_its_address(known, endpoint), form=form, headers=headers, private=True
        )

    def _below_its_address(self, known: Discovery, endpoint: str) -> str:
        """The endpoint as the sidecar is to be asked for it. That address is the components' own affair; but the keys
        are at `auth_jwks_path` below it, and the issuer says where they are."""
        address = known.jwks_uri.removesuffix(self._settings.auth_jwks_path)
        if address == known.jwks_uri or not endpoint.startswith(address):
            raise unusable("endpoint-elsewhere")
        return endpoint.removeprefix(address)


def _error_of(answer: Answer) -> str:
    error = cast("dict[str, Any]", answer.data).get("error") if isinstance(answer.data, dict) else None
    return error if isinstance(error, str) and _ERROR.fullmatch(error) else "unknown"


def unusable(reason: str) -> IssuerUnusable:
    """To be raised; `reason` is for the log."""
    log.error("sign_in.issuer_unusable", reason=reason)
    return IssuerUnusable()
