"""Everything that can be set, and the only reader of the environment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from backoffice.setting_values import Key, Value, check
from chassis.export_pages import MOST_ROWS
from chassis.problems import Invalid
from chassis.settings import Rate, ServiceSettings

_FORM_BYTES = 16_384  # that a file's form has beside the file


def _usable(settings: dict[str, Value]) -> dict[str, Value]:
    for key, value in settings.items():
        try:
            check(key, value)
        except Invalid as unusable:
            raise ValueError(f"{key}{unusable.pointer.removeprefix('/value')}: {unusable.detail}") from None
    return settings


Origin = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+$")]
Addresses = dict[Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+$")], Origin]


class Settings(ServiceSettings):
    app_port: int = 8005
    dapr_http_port: int = 3505
    database_url: str = Field(default="sqlite:///var/data/backoffice.db", validation_alias="BACKOFFICE_DATABASE_URL")
    rate_limits: dict[str, Rate] = Field(default={}, validation_alias="BACKOFFICE_RATE_LIMITS")
    pubsub: str = Field(default="pubsub", validation_alias="BACKOFFICE_PUBSUB")
    state_store: str = Field(default="statestore", validation_alias="BACKOFFICE_STATE_STORE")
    # Where files lie: `file:<folder>`, which all replicas have to share, or `s3://<bucket>/<prefix>`, of which
    # `AWS_REGION`, `AWS_ENDPOINT_URL` and the other `AWS_…` say the rest; its keys are in the service's own secret.
    storage: str = Field(default="file:var/data/storage", validation_alias="BACKOFFICE_STORAGE")
    # How large a file may be.
    max_file_bytes: int = Field(default=10 * 2**20, gt=0, validation_alias="BACKOFFICE_MAX_FILE_BYTES")
    # How long an upload may take to arrive.
    upload_seconds: float = Field(default=120.0, gt=0, validation_alias="BACKOFFICE_UPLOAD_SECONDS")
    # After how long an upload that never became a file is thrown out.
    abandoned_seconds: float = Field(default=3600.0, validation_alias="BACKOFFICE_ABANDONED_SECONDS")
    # What counts for every tenant where nothing is set by `PUT /api/v1/settings/{key}`, or it is disabled. JSON by key:
    # `{"Features:new-menu": true}`.
    configured: Annotated[dict[Key, Value], AfterValidator(_usable)] = Field(
        default={}, validation_alias="BACKOFFICE_SETTINGS"
    )

    # What links in messages begin with: where this service is reached from outside.
    public_url: str = Field(
        default="http://localhost:8005",
        pattern=r"^https?://[^\s?#]+[^/\s?#]$",
        validation_alias="BACKOFFICE_PUBLIC_URL",
    )

    # Where a browser reaches each service, JSON by app-id.
    services: Addresses = Field(
        default={
            "order-service": "http://localhost:8001",
            "payment-service": "http://localhost:8002",
            "notification-service": "http://localhost:8003",
            "datasource-service": "http://localhost:8004",
        },
        validation_alias="BACKOFFICE_SERVICES",
    )
    # Where a browser reaches the sandbox; empty: there is none.
    sandbox_url: Origin | Literal[""] = Field(default="", validation_alias="BACKOFFICE_SANDBOX_URL")

    # Where the console asks for traces and log lines: `receiver:<url>` of `stack.otlp`, or `tempo:<url>` of Grafana
    # Tempo's query API; empty: nowhere.
    traces: str = Field(
        default="", pattern=r"^((receiver|tempo):https?://[^\s?#]+)?$", validation_alias="BACKOFFICE_TRACES"
    )

    # As what the issuer knows the pages; a secret, if there is one, is `client-secret` in ours.
    client_id: str = Field(default="brewline", min_length=1, validation_alias="BACKOFFICE_CLIENT_ID")
    # The issuer's metadata, below the HTTPEndpoint `issuer`.
    discovery_path: str = Field(
        default=".well-known/openid-configuration", validation_alias="BACKOFFICE_DISCOVERY_PATH"
    )
    # What the pages ask the issuer for.
    sign_in_scope: str = Field(default="openid offline_access", validation_alias="BACKOFFICE_SIGN_IN_SCOPE")
    # What else an issuer wants to be asked with, JSON: `{"audience": "brewline"}`, `{"prompt": "consent"}`.
    sign_in_parameters: dict[str, str] = Field(default={}, validation_alias="BACKOFFICE_SIGN_IN_PARAMETERS")

    # For how long an export's file is kept.
    export_days: int = Field(default=7, ge=1, le=3650, validation_alias="BACKOFFICE_EXPORT_DAYS")
    # Rows that an export reads at once.
    export_page: int = Field(default=MOST_ROWS, ge=1, le=MOST_ROWS, validation_alias="BACKOFFICE_EXPORT_PAGE")
    # How long after a failure a step of an export is tried again; then after three times as long, then the job fails.
    export_again_seconds: float = Field(default=5, gt=0, le=600, validation_alias="BACKOFFICE_EXPORT_AGAIN_SECONDS")
    # Where an export is written before it is stored, on a disk of its process alone.
    export_folder: Path = Field(default=Path("var/data/exports"), validation_alias="BACKOFFICE_EXPORT_FOLDER")

    @property
    def large_bodies(self) -> Mapping[str, tuple[int, float]]:
        return {"POST /api/v1/files": (self.max_file_bytes + _FORM_BYTES, self.upload_seconds)}

    @model_validator(mode="after")
    def _nobody_throws_out_what_is_still_coming(self) -> "Settings":
        if not self.upload_seconds < self.abandoned_seconds:
            raise ValueError(
                "BACKOFFICE_UPLOAD_SECONDS < BACKOFFICE_ABANDONED_SECONDS: else uploads would be swept away"
            )
        return self
