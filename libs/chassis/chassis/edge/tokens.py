"""Bearer tokens: JWTs (RFC 7519, RFC 8725) of one issuer, checked against its published keys.

The key set is fetched through the sidecar's HTTPEndpoint `issuer`, whose retries are declared, or read from a file.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard, cast

import jwt
import orjson
import structlog

from chassis.edge.auth import Caller, Role
from chassis.problems import Problem, Unavailable
from chassis.settings import ServiceSettings
from chassis.sidecar import Sidecar, SidecarDown
from chassis.texts import is_one_line

log = structlog.get_logger()

ISSUER = "issuer"  # the HTTPEndpoint
_LONGEST_TOKEN = 8192
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LONGEST_NAME = 255
_FRESH_SECONDS = 600.0
_PAUSE_SECONDS = 10.0  # between two fetches that unknown key ids ask for
_RETRY_SECONDS = 1.0  # while no keys are known at all
_LEEWAY_SECONDS = 5
_BELIEVED_SECONDS = 30.0  # how long a checked token is believed without another look; a withdrawn key counts by then
_MANY = 1024  # tokens remembered

Load = Callable[[], Awaitable[Any]]


class Keys:
    """The issuer's public keys by `kid`. A key that isn't known is looked for once for all who ask, and not again for
    a while: made-up ids cost the issuer nothing."""

    def __init__(self, load: Load, *, algorithms: frozenset[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock = clock
        self._algorithms = algorithms
        self._by_id: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = -_FRESH_SECONDS
        self._fetching: asyncio.Task[None] | None = None

    async def get(self, kid: str) -> jwt.PyJWK | None:
        """None where the issuer has no such key. Raises Unavailable while no key set has ever been read."""
        known = self._by_id.get(kid)
        age = self._clock() - self._fetched_at
        if known is not None:
            if age > _FRESH_SECONDS and self._may_fetch():
                self._fetch()  # nobody waits for it: a key that was good a moment ago still is
            return known
        if self._fetching is not None or self._may_fetch():
            await asyncio.shield(self._fetch())
        if not self._by_id:
            raise Unavailable(ISSUER)
        return self._by_id.get(kid)

    def _may_fetch(self) -> bool:
        pause = _PAUSE_SECONDS if self._by_id else _RETRY_SECONDS
        return self._clock() - self._tried_at > pause

    def _fetch(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._tried_at = self._clock()
            self._fetching = asyncio.create_task(self._read(), name="issuer-keys")
            self._fetching.add_done_callback(self._ended)
        return self._fetching

    def _ended(self, _task: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _read(self) -> None:
        try:
            by_id = _usable(await self._load(), self._algorithms)
        except (Unavailable, OSError, ValueError, TypeError) as error:
            log.warning("issuer.unavailable", error=type(error).__name__, known=len(self._by_id))
            return
        self._by_id, self._fetched_at = by_id, self._clock()
        log.info("issuer.keys", known=len(by_id))


def _usable(document: Any, algorithms: frozenset[str]) -> dict[str, jwt.PyJWK]:
    """The public signing keys of a JWK set (RFC 7517) that name themselves and are made for an algorithm we accept."""
    listed = cast("dict[str, Any]", document).get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise TypeError("no JWK set")
    found: dict[str, jwt.PyJWK] = {}
    for one in cast("list[Any]", listed):
        try:
            key = jwt.PyJWK.from_dict(one)
        except (jwt.PyJWTError, TypeError, AttributeError, ValueError, LookupError):
            continue
        kid, public = cast("Any", key.key_id), hasattr(key.key, "verify")
        if isinstance(kid, str) and public and key.algorithm_name in algorithms and key.public_key_use in (None, "sig"):
            found[kid] = key
    if not found:
        raise ValueError("no usable key")  # the ones we know are better than none
    return found


def keys_of(settings: ServiceSettings, sidecar: Sidecar) -> Keys:
    file = settings.auth_jwks_file

    async def load() -> Any:
        if file is not None:
            return orjson.loads(await asyncio.to_thread(Path(file).read_bytes))
        answer = await sidecar.invoke(ISSUER, settings.auth_jwks_path, verb="GET")
        if answer.status != 200:
            raise SidecarDown(ISSUER)
        return answer.data

    return Keys(load, algorithms=frozenset(settings.auth_algorithms))


def unauthenticated(detail: str, *, error: str = "invalid_token") -> Problem:
    """401 with RFC 6750's challenge. `detail` says what is wrong with a token, never what is in it."""
    challenge = f'Bearer realm="brewline", error="{error}", error_description="{detail}"' if error else "Bearer"
    return Problem(
        status=401,
        error_type="unauthenticated",
        title="Authentication is required",
        detail=detail,
        headers={"WWW-Authenticate": challenge},
    )


class Tokens:
    """Turns the `Authorization` header into a caller."""

    def __init__(self, *, keys: Keys, settings: ServiceSettings) -> None:
        self._keys = keys
        self._settings = settings
        self._believed_already: dict[str, tuple[Caller | None, float]] = {}

    async def caller(self, header: str | None) -> Caller:
        """Raises Problem: 401 for a token that can't be believed, 403 for one without a tenant."""
        if not header:
            raise unauthenticated("A bearer token is needed.", error="")
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise unauthenticated("Authorization wants the scheme Bearer and a token.", error="invalid_request")
        return await self._caller_of(token.strip())

    async def _caller_of(self, token: str) -> Caller:
        """Checking a signature costs more than the rest of the edge, and callers use a token many times."""
        caller, until = self._believed_already.get(token, (None, 0.0))
        if caller is not None and time.time() < until:
            return caller
        claims = await self._verified(token)
        caller = self._believed(claims)
        if len(self._believed_already) >= _MANY:
            self._believed_already.clear()
        self._believed_already[token] = (caller, min(float(claims["exp"]), time.time() + _BELIEVED_SECONDS))
        return caller

    async def _verified(self, token: str) -> Mapping[str, Any]:
        if len(token) > _LONGEST_TOKEN:
            raise unauthenticated("The token is too long.")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise unauthenticated("This is no JWT.") from None
        kid, algorithm = header.get("kid"), header.get("alg")
        if algorithm not in self._settings.auth_algorithms:
            raise unauthenticated("The token's algorithm is not accepted.")
        if not isinstance(kid, str) or not 0 < len(kid) <= _LONGEST_NAME:
            raise unauthenticated("The token names no key.")
        key = await self._keys.get(kid)
        if key is None:
            raise unauthenticated("The token's key is not one of the issuer's.")
        return self._checked(token, key)

    def _checked(self, token: str, key: jwt.PyJWK) -> Mapping[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],  # the key's own, never what the token says
                audience=self._settings.auth_audience,
                issuer=self._settings.auth_issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as error:
            raise unauthenticated(_WHY.get(type(error), "The token is not valid.")) from None

    def _believed(self, claims: Mapping[str, Any]) -> Caller:
        subject, tenant = claims["sub"], _at(claims, self._settings.auth_tenant_claim)
        if not _is_name(subject):
            raise unauthenticated("The token names nobody.")
        if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
            raise Problem(
                status=403,
                error_type="tenant-missing",
                title="The token has no tenant",
                detail=f"The claim {self._settings.auth_tenant_claim} is missing, or is no name of a tenant.",
            )
        name = _at(claims, self._settings.auth_tenant_name_claim)
        named = _at(claims, self._settings.auth_roles_claim)
        return Caller(
            tenant=tenant,
            tenant_name=name if _is_name(name) else tenant,
            subject=subject,
            roles=_roles(named),
        )


_WHY: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "The token has expired.",
    jwt.ImmatureSignatureError: "The token is not valid yet.",
    jwt.InvalidAudienceError: "The token is for another audience.",
    jwt.InvalidIssuerError: "The token is from another issuer.",
    jwt.InvalidSignatureError: "The token's signature is wrong.",
    jwt.MissingRequiredClaimError: "The token lacks a claim: exp, iss, aud and sub are needed.",
}


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by name, or by a dotted path such as Keycloak's `realm_access.roles`."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        found = cast("dict[str, Any]", found).get(part) if isinstance(found, dict) else None
    return found


def _is_name(claim: Any) -> TypeGuard[str]:
    """Whether it can be stored, logged and shown as it is."""
    return isinstance(claim, str) and 0 < len(claim) <= _LONGEST_NAME and is_one_line(claim)


def _roles(named: Any) -> frozenset[Role]:
    """Those that are ours; an issuer may give others too."""
    if isinstance(named, str):
        named = named.split()
    words = cast("list[Any]", named) if isinstance(named, list) else []
    return frozenset(role for role in Role if role in words)
