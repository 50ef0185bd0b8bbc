"""Everything that can be set, and the only reader of the environment."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from chassis.edge.auth import TENANT
from chassis.settings import Rate, ServiceSettings

NAME = r"^[a-z0-9][a-z0-9.-]{0,50}$"


class Source(BaseModel):
    """Where a tenant's data comes from: an HTTPEndpoint, beside which `<endpoint>-token` is the same place for tokens,
    and the secret that `client_id` shows there, by its name in our secret store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str = Field(pattern=TENANT)
    endpoint: str = Field(default="inn8", pattern=NAME)
    client_id: str = "brewline"
    secret: str = "inn8-client-secret"  # noqa: S105  its name


def _one_a_tenant(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    if len({source.tenant for source in sources}) < len(sources):
        raise ValueError("one source for each tenant: of two nobody could tell whose word holds")
    return sources


class Settings(ServiceSettings):
    app_port: int = 8004
    dapr_http_port: int = 3504
    database_url: str = Field(default="sqlite:///var/data/datasource.db", validation_alias="DATASOURCE_DATABASE_URL")
    rate_limits: dict[str, Rate] = Field(default={}, validation_alias="DATASOURCE_RATE_LIMITS")
    pubsub: str = Field(default="pubsub", validation_alias="DATASOURCE_PUBSUB")
    state_store: str = Field(default="statestore", validation_alias="DATASOURCE_STATE_STORE")
    # JSON, one a tenant, as the default shows it. Beside the HTTPEndpoint `inn8` there is `inn8-token`.
    sources: Annotated[tuple[Source, ...], AfterValidator(_one_a_tenant)] = Field(
        default=(Source(tenant="default"),), validation_alias="DATASOURCE_SOURCES"
    )
    # How often every source is read; also at once on start, and by `POST /sync/{entity}`.
    sync_seconds: float = Field(default=900, ge=1, validation_alias="DATASOURCE_SYNC_SECONDS")
    # By how much a source may commit a row later than its `updatedAt` says; what is later still only a full run finds.
    lag_seconds: float = Field(default=300, ge=0, validation_alias="DATASOURCE_LAG_SECONDS")
    # Rows of a page, and of a transaction.
    page_rows: int = Field(default=500, ge=1, le=500, validation_alias="DATASOURCE_PAGE_ROWS")
    # For how long a run is its process's after the last sign of life.
    lease_seconds: float = Field(default=15, ge=2, validation_alias="DATASOURCE_LEASE_SECONDS")
    # How long `POST /sync/{entity}` waits for the end of the run.
    answer_seconds: float = Field(default=5, gt=0, validation_alias="DATASOURCE_ANSWER_SECONDS")
