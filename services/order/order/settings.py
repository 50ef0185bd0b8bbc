"""Everything that can be set, and the only reader of the environment."""

from itertools import pairwise
from pathlib import Path

from pydantic import Field, model_validator

from chassis.edge.auth import TENANT
from chassis.settings import Rate, ServiceSettings


class Settings(ServiceSettings):
    app_port: int = 8001
    dapr_http_port: int = 3501
    database_url: str = Field(default="sqlite:///var/data/order.db", validation_alias="ORDER_DATABASE_URL")
    # What every tenant starts from: products, and their first stock. Else the shipped catalog.
    catalog_file: Path | None = Field(default=None, validation_alias="ORDER_CATALOG_FILE")
    # Whose catalog is shown to whoever shows no token.
    public_tenant: str = Field(default="default", pattern=TENANT, validation_alias="ORDER_PUBLIC_TENANT")
    # How long `POST /orders` waits for the outcome.
    wait_seconds: float = Field(default=5.0, validation_alias="ORDER_WAIT_SECONDS")
    rate_limits: dict[str, Rate] = Field(default={}, validation_alias="ORDER_RATE_LIMITS")
    pubsub: str = Field(default="pubsub", validation_alias="ORDER_PUBSUB")
    state_store: str = Field(default="statestore", validation_alias="ORDER_STATE_STORE")

    # How long payment may take to answer, with `processing` where it doesn't know: `PAYMENT_ANSWER_SECONDS` and the
    # way.
    payment_seconds: float = Field(default=6.0, gt=0, validation_alias="ORDER_PAYMENT_SECONDS")
    # How long an order's steps may take in all while its caller waits, and a durable step alone.
    step_seconds: float = Field(default=8.0, validation_alias="ORDER_STEP_SECONDS")
    # How long an order is its inline driver's: then somebody takes it over.
    driver_lease_seconds: float = Field(default=10.0, validation_alias="ORDER_DRIVER_LEASE_SECONDS")
    # How far beyond its next timer the durable driver is left alone before somebody takes it over.
    past_timer_seconds: float = Field(default=60.0, validation_alias="ORDER_PAST_TIMER_SECONDS")

    @model_validator(mode="after")
    def _nobody_takes_over_what_is_under_way(self) -> "Settings":
        rising = (self.payment_seconds, self.step_seconds, self.driver_lease_seconds, self.past_timer_seconds)
        if not all(shorter < longer for shorter, longer in pairwise(rising)):
            raise ValueError(
                "ORDER_PAYMENT_SECONDS < ORDER_STEP_SECONDS < ORDER_DRIVER_LEASE_SECONDS < ORDER_PAST_TIMER_SECONDS: "
                "else an order would be taken over while it is driven"
            )
        return self
