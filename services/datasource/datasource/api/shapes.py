"""What answers look like, and what is asked for in paths and queries."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query

from chassis.ids import id_or
from chassis.paging import next_cursor
from chassis.wire import Wire
from datasource.domain import (
    AccountType,
    ClientStatus,
    Entity,
    Mode,
    NotFound,
    PortfolioStatus,
    SecurityType,
    SyncLog,
    SyncStatus,
    TransactionType,
)

T = TypeVar("T")

ExternalId = Annotated[str | None, Query(alias="externalId", max_length=64, pattern=r"^[\x21-\x7e]+$")]

ClientId = Annotated[str, id_or(lambda: NotFound("client"))]
PortfolioId = Annotated[str, id_or(lambda: NotFound("portfolio"))]
SecurityId = Annotated[str, id_or(lambda: NotFound("security"))]
TransactionId = Annotated[str, id_or(lambda: NotFound("transaction"))]
LogId = Annotated[str, id_or(lambda: NotFound("sync log"))]
ItemId = Annotated[str, id_or(lambda: NotFound("item"))]


class Page(Wire, Generic[T]):
    """`next` is the `cursor` of the following page, null on the last one."""

    items: list[T]
    next: str | None

    @classmethod
    def of(cls, found: Sequence[Any], view: Callable[[Any], T], *, limit: int, row_id: Callable[[Any], str]) -> Any:
        """Of one row more than the page has, where there are so many."""
        following = next_cursor(found, limit, row_id)
        return cls(items=[view(row) for row in found[:limit]], next=following)


class Synced(Wire):
    """`externalId` is the id at the source. `updatedAt` moves with what is said here, `lastSyncDate` whenever the
    source shows the row."""

    id: str
    external_id: str
    version: int
    created_at: datetime
    updated_at: datetime
    last_sync_date: datetime


class ClientView(Synced):
    """`phone` as people write it, `phoneE164` as it is called: empty where it is no number."""

    name: str
    email: str
    phone: str
    phone_e164: str
    address: str
    status: ClientStatus


class PortfolioView(Synced):
    client_id: str
    name: str
    account_number: str
    account_type: AccountType
    status: PortfolioStatus


class SecurityView(Synced):
    symbol: str
    name: str
    isin: str
    type: SecurityType
    currency: str


class TransactionView(Synced):
    """Amounts are decimal strings, digit for digit as the source has them."""

    portfolio_id: str
    security_id: str | None
    type: TransactionType
    quantity: str | None
    price: str | None
    amount: str
    currency: str
    trade_date: date | None


class SyncLogView(Wire):
    """A run. `recordCount` is inserted, updated and unchanged together; `errorCount` are those in quarantine; `deleted`
    are those that a full run has not seen any more."""

    id: str
    entity_type: str
    mode: Mode
    status: SyncStatus
    start_time: datetime
    end_time: datetime | None
    record_count: int
    inserted: int
    updated: int
    unchanged: int
    deleted: int
    error_count: int
    error_message: str | None

    @classmethod
    def of(cls, log: SyncLog) -> "SyncLogView":
        return cls(
            id=log.id,
            entity_type=log.entity.type,
            mode=log.mode,
            status=log.status,
            start_time=log.start_time,
            end_time=log.end_time,
            record_count=log.records,
            inserted=log.inserted,
            updated=log.updated,
            unchanged=log.unchanged,
            deleted=log.deleted,
            error_count=log.errors,
            error_message=log.error_message,
        )


class QuarantinedView(Wire):
    """`payload` is the item as the source sent it, `reason` why it could not be taken, `item` its id at the source, or
    a hash where it has none; `seenAt` is when the source said so last."""

    id: str
    entity: Entity
    item: str
    reason: str
    payload: Any
    created_at: datetime
    seen_at: datetime
