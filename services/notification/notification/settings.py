"""Everything that can be set, and the only reader of the environment."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from chassis.settings import Rate as Limit
from chassis.settings import ServiceSettings, Words
from notification.domain import WAIT, WRITE_DOWN

Rate = Annotated[float, Field(gt=0, le=10_000)]


class Settings(ServiceSettings):
    app_port: int = 8003
    dapr_http_port: int = 3503
    # As much as a sidecar delivers. An event refused with a 413 would be delivered again without end.
    max_body_bytes: int = 4 * 1024 * 1024
    # Anybody may ask, and each time a row is written.
    rate_limits: dict[str, Limit] = Field(
        default={"POST /api/v1/password-resets": "30/minute"}, validation_alias="NOTIFICATION_RATE_LIMITS"
    )
    database_url: str = Field(
        default="sqlite:///var/data/notification.db", validation_alias="NOTIFICATION_DATABASE_URL"
    )
    pubsub: str = Field(default="pubsub", validation_alias="NOTIFICATION_PUBSUB")
    cache_store: str = Field(default="statestore", validation_alias="NOTIFICATION_CACHE_STORE")
    # What links in messages begin with: where recipients reach this service.
    public_url: str = Field(
        default="http://localhost:8003",
        pattern=r"^https?://[^\s?#]+[^/\s?#]$",
        validation_alias="NOTIFICATION_PUBLIC_URL",
    )
    # The page that redeems a reset.
    reset_url: str = Field(
        default="http://localhost:8001/reset-password",
        pattern=r"^https?://[^\s#]+$",
        validation_alias="NOTIFICATION_RESET_URL",
    )
    # Bulk messages a second, by provider, JSON: `{"smtp": 100}`; one that isn't named goes as fast as it can. Not set:
    # the `RATES` of `channels/__init__.py`.
    provider_rates: dict[str, Rate] | None = Field(default=None, validation_alias="NOTIFICATION_BULK_RATES")

    # Seconds by which the receipt of an SMS may be late before its provider is asked, where it can be.
    look_up_after: float = Field(default=300, ge=1, le=86_400, validation_alias="NOTIFICATION_LOOK_UP_AFTER")

    # How long a provider may take by the declared policies, every retry included.
    call_seconds: float = Field(default=16, gt=0, validation_alias="NOTIFICATION_CALL_SECONDS")
    # After how long a send is cut off.
    send_seconds: float = Field(default=20, validation_alias="NOTIFICATION_SEND_SECONDS")
    # For how long a row is one replica's to send: in that time it waits for its turn, and how it ended is written down.
    lease_seconds: float = Field(default=30, validation_alias="NOTIFICATION_LEASE_SECONDS")

    # How far beyond its next timer the durable driver of a saga keeps the sweep away: one step takes 8 s at most.
    saga_past_timer_seconds: float = Field(default=60, ge=10, validation_alias="NOTIFICATION_SAGA_PAST_TIMER_SECONDS")

    # Name of the push provider's HTTPEndpoint.
    push_endpoint: str = Field(default="push", validation_alias="NOTIFICATION_PUSH_ENDPOINT")
    # SMS providers, in the order in which they are tried.
    sms_providers: Words = Field(default=("africas-talking", "legacy"), validation_alias="NOTIFICATION_SMS_PROVIDERS")
    # Whom a text message comes from.
    sms_sender: str = Field(default="Brewline", max_length=11, validation_alias="NOTIFICATION_SMS_SENDER")
    # Our name at Africa's Talking.
    africas_talking_username: str = Field(default="sandbox", validation_alias="NOTIFICATION_AFRICAS_TALKING_USERNAME")
    # The mail server.
    smtp_host: str = Field(default="127.0.0.1", validation_alias="NOTIFICATION_SMTP_HOST")
    # The mail server's port.
    smtp_port: int = Field(default=8025, ge=1, le=65535, validation_alias="NOTIFICATION_SMTP_PORT")
    # How the mail server is spoken to: in the clear, by STARTTLS, or by TLS from the first byte.
    smtp_tls: Literal["off", "starttls", "implicit"] = Field(default="off", validation_alias="NOTIFICATION_SMTP_TLS")
    # Who vouches for the mail server; else the system's authorities.
    smtp_ca_file: Path | None = Field(default=None, validation_alias="NOTIFICATION_SMTP_CA_FILE")
    # As whom we sign in at the mail server, with the secret `smtp-password`; empty: not at all.
    smtp_username: str = Field(default="", validation_alias="NOTIFICATION_SMTP_USERNAME")
    # Connections that are kept open to the mail server.
    smtp_connections: int = Field(default=4, ge=1, le=100, validation_alias="NOTIFICATION_SMTP_CONNECTIONS")
    # Whom an e-mail comes from.
    smtp_from: str = Field(
        default="Brewline <orders@brewline.example>",
        pattern=r"^[^\r\n]*[^\s<>@]+@[^\s<>@]+>?$",
        validation_alias="NOTIFICATION_SMTP_FROM",
    )

    @model_validator(mode="after")
    def _a_lease_outlasts_a_send(self) -> "Settings":
        beyond = (WAIT + WRITE_DOWN).total_seconds()
        if not self.call_seconds < self.send_seconds <= self.lease_seconds - beyond:
            raise ValueError(
                "NOTIFICATION_CALL_SECONDS < NOTIFICATION_SEND_SECONDS, and NOTIFICATION_LEASE_SECONDS is "
                f"{beyond:.0f} more at least: else another replica would send what is being sent"
            )
        return self
