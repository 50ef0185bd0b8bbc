"""Everything that can be set, and the only reader of the environment."""

from pathlib import Path

from pydantic import Field

from chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    app_port: int = 8002
    dapr_http_port: int = 3502
    database_url: str = Field(default="sqlite:///var/data/payment.db", validation_alias="PAYMENT_DATABASE_URL")
    seal_keys: str = Field(default="", validation_alias="PAYMENT_SEAL_KEYS", repr=False)
    seal_key_file: Path = Field(default=Path("var/keys/payment.key"), validation_alias="PAYMENT_SEAL_KEY_FILE")
    answer_seconds: float = Field(default=5.5, validation_alias="PAYMENT_ANSWER_SECONDS")
