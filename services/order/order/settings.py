"""Everything that can be set, and the only reader of the environment."""

from pathlib import Path

from pydantic import Field

from chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    app_port: int = 8001
    dapr_http_port: int = 3501
    database_url: str = Field(default="sqlite:///var/data/order.db", validation_alias="ORDER_DATABASE_URL")
    catalog_file: Path | None = Field(default=None, validation_alias="ORDER_CATALOG_FILE")
    wait_seconds: float = Field(default=5.0, validation_alias="ORDER_WAIT_SECONDS")
    pubsub: str = Field(default="pubsub", validation_alias="ORDER_PUBSUB")
    state_store: str = Field(default="statestore", validation_alias="ORDER_STATE_STORE")
