"""What is synchronised, and how a run goes: the nouns and the rules. Standard library and pydantic only."""

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Entity(StrEnum):
    """In the order in which they are synchronised: parents first."""

    CLIENTS = "clients"
    SECURITIES = "securities"
    PORTFOLIOS = "portfolios"
    TRANSACTIONS = "transactions"

    @property
    def type(self) -> str:
        """As a log names it."""
        return _TYPES[self]


_TYPES = {
    Entity.CLIENTS: "Client",
    Entity.SECURITIES: "Security",
    Entity.PORTFOLIOS: "Portfolio",
    Entity.TRANSACTIONS: "Transaction",
}


class Mode(StrEnum):
    """Incremental reads what has changed; full reads everything, and so finds what is there no more."""

    INCREMENTAL = "incremental"
    FULL = "full"


class SyncStatus(StrEnum):
    IN_PROGRESS = "InProgress"
    SUCCESS = "Success"
    PARTIAL_SUCCESS = "PartialSuccess"
    NO_DATA = "NoData"
    FAILED = "Failed"


MOVES: dict[SyncStatus, frozenset[SyncStatus]] = {
    SyncStatus.IN_PROGRESS: frozenset(SyncStatus) - {SyncStatus.IN_PROGRESS},
    SyncStatus.SUCCESS: frozenset(),
    SyncStatus.PARTIAL_SUCCESS: frozenset(),
    SyncStatus.NO_DATA: frozenset(),
    SyncStatus.FAILED: frozenset(),
}


class ClientStatus(StrEnum):
    ACTIVE = "Active"
    INACTIVE = "Inactive"
    SUSPENDED = "Suspended"
    UNKNOWN = "Unknown"


class PortfolioStatus(StrEnum):
    OPEN = "Open"
    CLOSED = "Closed"
    FROZEN = "Frozen"
    UNKNOWN = "Unknown"


class AccountType(StrEnum):
    INDIVIDUAL = "Individual"
    JOINT = "Joint"
    IRA = "Ira"
    TRUST = "Trust"
    CORPORATE = "Corporate"
    UNKNOWN = "Unknown"


class SecurityType(StrEnum):
    EQUITY = "Equity"
    BOND = "Bond"
    ETF = "Etf"
    FUND = "Fund"
    UNKNOWN = "Unknown"


class TransactionType(StrEnum):
    BUY = "Buy"
    SELL = "Sell"
    DIVIDEND = "Dividend"
    INTEREST = "Interest"
    FEE = "Fee"
    DEPOSIT = "Deposit"
    WITHDRAWAL = "Withdrawal"
    TRANSFER = "Transfer"
    UNKNOWN = "Unknown"


class Counts(BaseModel):
    """Of items, by what became of them. `errors` are in quarantine."""

    model_config = ConfigDict(frozen=True)

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    errors: int = 0

    @property
    def records(self) -> int:
        """The items that were good."""
        return self.inserted + self.updated + self.unchanged


class SyncLog(Counts):
    """One run. `since` is from when on it reads, None for all; `cursor` where it goes on after a kill."""

    id: str
    tenant: str
    source: str
    entity: Entity
    mode: Mode
    status: SyncStatus
    start_time: datetime
    end_time: datetime | None
    error_message: str | None
    since: datetime | None
    cursor: str | None


def outcome(counts: Counts) -> SyncStatus:
    """How a run ends that came to the end of its source's list."""
    if counts.errors:
        return SyncStatus.PARTIAL_SUCCESS
    return SyncStatus.SUCCESS if counts.records else SyncStatus.NO_DATA


def read_since(watermark: datetime | None, lag: timedelta) -> datetime | None:
    """From when on an incremental run reads: a source may commit a row after others with a later `updatedAt`, but not
    later than `lag` after it."""
    return None if watermark is None else watermark - lag


class SourceFailed(Exception):
    """The source can't be read now; its words, which a log keeps, tell nothing of a person and no secret."""


class CursorRefused(SourceFailed):
    """The source reads on from there no more: it is read from the beginning."""


class SyncRunning(Exception):
    def __init__(self, entity: Entity) -> None:
        super().__init__(f"A sync of {entity} is running.")


class NoSource(Exception):
    def __init__(self) -> None:
        super().__init__("There is no data source for this tenant.")


class NotFound(Exception):
    def __init__(self, what: str) -> None:
        super().__init__(f"There is no such {what}.")


class OfOtherTenant(Exception):
    def __init__(self, what: str) -> None:
        super().__init__(f"{what} belongs to different tenant".capitalize())


class StillInvalid(Exception):
    """What is in quarantine can't be taken now either."""
