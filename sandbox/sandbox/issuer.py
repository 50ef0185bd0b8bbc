"""The development token issuer: who may be whom, for as long as no real identity provider is there."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self
from uuid import uuid4

import jwt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from sandbox.keys import KeyRing, SigningKey
from sandbox.records import utc_now


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("a name has no control characters")
    return value


class Holder(BaseModel):
    """Whom a token speaks of, as asked for by a form or a command line; `tenant_name` defaults to one for `tenant`."""

    model_config = ConfigDict(frozen=True)

    role: Literal["user", "staff", "admin"] = "user"
    sub: str = Field(pattern="^[ -~]{1,255}$")
    tenant: str = Field(default="default", pattern="^[A-Za-z0-9._-]{1,64}$")
    tenant_name: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)] = Field(
        default_factory=lambda known: _name_of(known.get("tenant", ""))
    )

    @classmethod
    def checked(cls, **asked: str | None) -> Self | str:
        """The holder, or what is wrong, without a word of what was sent; None asks for the default."""
        try:
            return cls.model_validate({name: value for name, value in asked.items() if value is not None})
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            return f"{first['loc'][0]}: {first['msg']}"


class Issuer:
    """Signs tokens (RS256) as `name`, with keys that outlive every reset of the records."""

    def __init__(self, *, name: str, keys: KeyRing, clock: Callable[[], datetime] = utc_now) -> None:
        self.name = name
        self._keys = keys
        self._clock = clock

    def token(
        self,
        *,
        subject: str,
        roles: Sequence[str],
        tenant: str,
        tenant_name: str,
        audience: str,
        lifetime: timedelta,
    ) -> str:
        """A signed JWT, good from now on; times are in whole seconds. Raises OSError when no key can be had."""
        return self._signed(
            {"aud": audience, "sub": subject, "tenant": tenant, "tenant_name": tenant_name, "roles": list(roles)},
            lifetime,
        )

    def id_token(self, *, subject: str, client_id: str, nonce: str, lifetime: timedelta) -> str:
        """Who signed in, for the client that asked with `nonce` (OpenID Connect Core, section 2)."""
        return self._signed({"aud": client_id, "sub": subject, "nonce": nonce, "name": subject}, lifetime)

    def _signed(self, about: Mapping[str, object], lifetime: timedelta) -> str:
        now = int(self._clock().timestamp())
        claims = {
            "iss": self.name,
            "iat": now,
            "nbf": now,
            "exp": now + int(lifetime.total_seconds()),
            "jti": uuid4().hex,
            **about,
        }
        key = self._keys.published()[0]
        return jwt.encode(claims, key.private, algorithm="RS256", headers={"kid": key.kid})

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The keys that verify (RFC 7517), the one that signs now first."""
        return {"keys": [key.jwk() for key in self._keys.published()]}

    def rotate(self) -> SigningKey:
        """Signs with a new key from now on. The former one stays published, the one before it goes."""
        return self._keys.rotate()


def _name_of(tenant: str) -> str:
    """`north-side` is North Side."""
    words = [word[0].upper() + word[1:] for word in re.split("[._-]+", tenant) if word]
    return " ".join(words) or tenant
