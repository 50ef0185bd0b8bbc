"""The settings every service has; its own `settings.py` adds to them and is the only reader of the environment."""

from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """`APP_PORT` and `DAPR_…` are the names under which Dapr itself tells an app where things are."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    app_port: int
    dapr_http_port: int
    dapr_grpc_port: int = 50001
    dapr_api_token: str = ""
    log_level: str = "INFO"
    max_body_bytes: int = 1_000_000
