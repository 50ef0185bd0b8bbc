"""Everything that can be set, and the only reader of the environment."""

from pydantic import Field

from chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    app_port: int = 8003
    dapr_http_port: int = 3503
    # As much as a sidecar delivers. An event refused with a 413 would be delivered again without end.
    max_body_bytes: int = 4 * 1024 * 1024
    database_url: str = Field(
        default="sqlite:///var/data/notification.db", validation_alias="NOTIFICATION_DATABASE_URL"
    )
    pubsub: str = Field(default="pubsub", validation_alias="NOTIFICATION_PUBSUB")
    push_endpoint: str = Field(default="push", validation_alias="NOTIFICATION_PUSH_ENDPOINT")
    smtp_host: str = Field(default="127.0.0.1", validation_alias="NOTIFICATION_SMTP_HOST")
    smtp_port: int = Field(default=8025, ge=1, le=65535, validation_alias="NOTIFICATION_SMTP_PORT")
    smtp_connections: int = Field(default=4, ge=1, le=100, validation_alias="NOTIFICATION_SMTP_CONNECTIONS")
    smtp_from: str = Field(
        default="Brewline <orders@brewline.example>",
        pattern=r"^[^\r\n]*[^\s<>@]+@[^\s<>@]+>?$",
        validation_alias="NOTIFICATION_SMTP_FROM",
    )
