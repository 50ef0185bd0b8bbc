"""The settings every service has; its own `settings.py` adds to them and is the only reader of the environment."""

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

    host: str = "127.0.0.1"
    app_port: int
    app_api_token: Annotated[str, AfterValidator(_app_token)] = Field(default="", validate_default=True, repr=False)
    dapr_http_port: int
    dapr_grpc_port: int = 50001
    dapr_api_token: str = Field(default="", repr=False)  # we prove ourselves to the sidecar by it
    log_level: str = "INFO"
    max_body_bytes: int = 1_000_000
    body_seconds: float = 10.0  # how long a request's body may take to arrive
    secret_store: str = "secrets"  # noqa: S105  a component's name

    auth_issuer: str = "http://localhost:8009"
    auth_audience: str = "brewline"
    auth_algorithms: Annotated[Words, AfterValidator(_asymmetric)] = ("RS256", "ES256")
    auth_jwks_path: str = ".well-known/jwks.json"  # below the HTTPEndpoint `issuer`
    auth_jwks_file: Path | None = None  # a key set that is read from a file instead
    auth_tenant_claim: str = "tenant"
    auth_tenant_name_claim: str = "tenant_name"
    auth_roles_claim: str = "roles"

    # `<number>/<second|minute|hour>`; empty is none. Per tenant, caller and route; public routes by address.
    rate_limit: Rate = "60000/minute"
    # Another limit for a route: {"POST /api/v1/things": "100/minute"}. Each service has a variable of its own for it:
    # one that names routes which are not its own doesn't start.
    rate_limits: dict[str, Rate] = {}
    rate_limit_store: str = "statestore"
    rate_limit_without_store: Literal["open", "closed"] = "open"

    trusted_proxies: str = ""  # addresses whose X-Forwarded-For is believed, comma-separated
    cors_origins: Annotated[Words, AfterValidator(_origins)] = ()
    deprecated: dict[str, Deprecated] = Field(default={}, validation_alias="API_DEPRECATED")  # by version: {"v1": …}
