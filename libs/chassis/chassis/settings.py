"""The settings every service has; its own `settings.py` adds to them and is the only reader of the environment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import limits
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ASYMMETRIC = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)  # a shared secret would let whoever can check a token also make one


def _words(value: Any) -> Any:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _asymmetric(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names or not set(names) <= ASYMMETRIC:
        raise ValueError(f"only of {', '.join(sorted(ASYMMETRIC))}")
    return names


def _origins(names: tuple[str, ...]) -> tuple[str, ...]:
    if any("*" in name or not name.startswith(("http://", "https://")) for name in names):
        raise ValueError(
            "whole origins such as https://board.example; `*` would let any page use a caller's credentials"
        )
    return names


def _app_token(token: str) -> str:
    """The sidecar proves itself by it; without one anybody could play the sidecar."""
    if len(token) < 16:
        raise ValueError('APP_API_TOKEN needs 16 characters; for a plain `dapr run -f`: eval "$(make -s env)"')
    return token


def _rate(text: str) -> str:
    if text and len(limits.parse_many(text)) > 1:
        raise ValueError("one rate; of several all but the first would be forgotten")
    return text


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Rate = Annotated[str, AfterValidator(_rate)]


class Deprecated(BaseModel):
    """When a version of the API was, or will be, deprecated (RFC 9745), when it ends (RFC 8594), and what to read."""

    model_config = ConfigDict(frozen=True)

    since: AwareDatetime
    sunset: AwareDatetime
    link: str | None = None


class ServiceSettings(BaseSettings):
    """`APP_PORT`, `APP_API_TOKEN` and `DAPR_…` are the names under which Dapr itself tells an app these things."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    # The address that is listened on.
    host: str = "127.0.0.1"
    # Where the app listens; its sidecar is told the same.
    app_port: int
    # By it the sidecar proves itself to the app; at least 16 characters.
    app_api_token: Annotated[str, AfterValidator(_app_token)] = Field(default="", validate_default=True, repr=False)
    # Where the app finds its sidecar.
    dapr_http_port: int
    # The sidecar's port for workflows.
    dapr_grpc_port: int = 50001
    # Where the sidecar tells its metrics, for `GET /api/v1/ops`.
    dapr_metrics_port: int = 9090
    # By it the app proves itself to the sidecar.
    dapr_api_token: str = Field(default="", repr=False)
    # Seconds for which a process that was told to stop still takes requests, each answer the last on its connection:
    # as long as others may not know yet that it is leaving. None on one machine.
    leave_seconds: float = Field(default=0, ge=0, le=30)
    # The least that is logged.
    log_level: str = "INFO"
    # How large a request's body may be.
    max_body_bytes: int = 1_000_000
    # How long a request's body may take to arrive.
    body_seconds: float = 10.0
    # Name of the secret store's component.
    secret_store: str = "secrets"  # noqa: S105

    # What `iss` of a token must be.
    auth_issuer: str = "http://localhost:8009"
    # What `aud` of a token must be.
    auth_audience: str = "brewline"
    # By which a token may be signed; asymmetric ones only.
    auth_algorithms: Annotated[Words, AfterValidator(_asymmetric)] = ("RS256", "ES256")
    # Where the issuer's keys are, below the HTTPEndpoint `issuer`.
    auth_jwks_path: str = ".well-known/jwks.json"
    # A file with those keys, which is read instead.
    auth_jwks_file: Path | None = None
    # Where a token names its tenant; dotted paths too, such as `realm_access.tenant`.
    auth_tenant_claim: str = "tenant"
    # Where a token has the tenant's name.
    auth_tenant_name_claim: str = "tenant_name"
    # Where a token has its roles; dotted paths too.
    auth_roles_claim: str = "roles"
    # The tenant whose admins may do what concerns all tenants: system-wide settings, recurring work. Empty: nobody may
    # (403 `operator-only`).
    operator_tenant: str = ""

    # `<number>/<second|minute|hour|day>`, per tenant, caller and route; per address where no token is asked for, or
    # none that is good was sent. Empty: no limit.
    rate_limit: Rate = "60000/minute"
    # Other limits by route, JSON: `{"POST /api/v1/things": "100/minute"}`. A route that the service hasn't is refused
    # at start.
    rate_limits: dict[str, Rate] = {}
    # Name of the state store that keeps rate limits.
    rate_limit_store: str = "statestore"
    # While that store is down: all may pass, or each request is refused by 503.
    rate_limit_without_store: Literal["open", "closed"] = "open"

    @property
    def large_bodies(self) -> Mapping[str, tuple[int, float]]:
        """By route, where a body may be larger than any other: its bytes, and the seconds that it may take."""
        return {}

    # Addresses whose `X-Forwarded-For` is believed, for limits by address; comma-separated.
    trusted_proxies: str = ""
    # Origins whose pages may call, by any method and with any header, but without cookies; `*` is refused.
    cors_origins: Annotated[Words, AfterValidator(_origins)] = ()
    # JSON, which versions of the API will end: `{"v1": {"since": …, "sunset": …, "link": …}}`.
    deprecated: dict[str, Deprecated] = Field(default={}, validation_alias="API_DEPRECATED")
