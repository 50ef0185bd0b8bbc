"""Everything that can be set, and the only reader of the environment."""

from pydantic import Field, model_validator

from chassis.settings import Rate, ServiceSettings
from payment.routing import DEFAULT, Rule


class Settings(ServiceSettings):
    app_port: int = 8002
    dapr_http_port: int = 3502
    database_url: str = Field(default="sqlite:///var/data/payment.db", validation_alias="PAYMENT_DATABASE_URL")
    rate_limits: dict[str, Rate] = Field(default={}, validation_alias="PAYMENT_RATE_LIMITS")
    pubsub: str = Field(default="pubsub", validation_alias="PAYMENT_PUBSUB")
    # Which provider charges what, while the setting `Routing:Payments` is not set; JSON, the first rule that fits:
    # `[{"currencies": ["USD"], "at_least": "0", "below": "100", "weights": {"a": 80, "b": 20}}]`.
    routes: tuple[Rule, ...] = Field(default=DEFAULT, validation_alias="PAYMENT_ROUTES")
    # How long `process-payment` may take to answer, by `processing` where it doesn't know.
    answer_seconds: float = Field(default=5.5, validation_alias="PAYMENT_ANSWER_SECONDS")

    # How long one call to a provider may take by the declared policies, every retry included.
    call_seconds: float = Field(default=16, gt=0, validation_alias="PAYMENT_CALL_SECONDS")
    # For how long a charge or refund is its driver's.
    claim_seconds: float = Field(default=30, validation_alias="PAYMENT_CLAIM_SECONDS")

    @model_validator(mode="after")
    def _nobody_posts_what_is_being_posted(self) -> "Settings":
        if not self.call_seconds < self.claim_seconds:
            raise ValueError(
                "PAYMENT_CALL_SECONDS < PAYMENT_CLAIM_SECONDS: else another replica would post what is being posted"
            )
        return self
