"""Everything that can be set, and the only reader of the environment."""

from pydantic import Field

from chassis.settings import Rate, ServiceSettings
from payment.routing import DEFAULT, Rule


class Settings(ServiceSettings):
    app_port: int = 8002
    dapr_http_port: int = 3502
    database_url: str = Field(default="sqlite:///var/data/payment.db", validation_alias="PAYMENT_DATABASE_URL")
    rate_limits: dict[str, Rate] = Field(default={}, validation_alias="PAYMENT_RATE_LIMITS")
    pubsub: str = Field(default="pubsub", validation_alias="PAYMENT_PUBSUB")
    # JSON: [{"currencies": ["USD"], "at_least": "0", "below": "100", "weights": {"a": 80, "b": 20}}, …]
    routes: tuple[Rule, ...] = Field(default=DEFAULT, validation_alias="PAYMENT_ROUTES")
    answer_seconds: float = Field(default=5.5, validation_alias="PAYMENT_ANSWER_SECONDS")
