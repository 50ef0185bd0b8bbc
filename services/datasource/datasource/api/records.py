"""Clients, portfolios, securities and transactions, as they came from the source."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from fastapi import Query, Request

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.paging import Cursor, Limit, decode_cursor
from datasource import tables
from datasource.api.shapes import (
    ClientId,
    ClientView,
    ExternalId,
    Page,
    PortfolioId,
    PortfolioView,
    SecurityId,
    SecurityView,
    Synced,
    TransactionId,
    TransactionView,
)
from datasource.domain import ClientStatus, Entity, TransactionType
from datasource.services import services
from datasource.store import Store

V = TypeVar("V", bound=Synced)

_NO_RECORD = refused({403: "different-tenant", 404: "record-not-found"})

router = Routes(prefix="/api/v1", responses=refused({422: "invalid-request", 503: "database-unavailable"}))


@router.get("/clients", tags=["clients"])
async def list_clients(
    request: Request,
    status: ClientStatus | None = None,
    external_id: ExternalId = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[ClientView]:
    """Newest first."""
    c = tables.clients.c
    wanted = {c.status: status, c.external_id: external_id}
    return await _page(request, Entity.CLIENTS, ClientView, wanted, limit=limit, cursor=cursor)


@router.get("/clients/{client_id}", responses=_NO_RECORD, tags=["clients"])
async def get_client(request: Request, client_id: ClientId) -> ClientView:
    return _view(ClientView, await _store(request).get(Entity.CLIENTS, client_id))


@router.get("/portfolios", tags=["portfolios"])
async def list_portfolios(
    request: Request,
    client_id: Annotated[UUID | None, Query(alias="clientId")] = None,
    external_id: ExternalId = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[PortfolioView]:
    """Newest first: of one client, or of all. One whose client isn't there yet, or no more, is not shown."""
    wanted = {tables.clients.c.id: _text(client_id), tables.portfolios.c.external_id: external_id}
    return await _page(request, Entity.PORTFOLIOS, PortfolioView, wanted, limit=limit, cursor=cursor)


@router.get("/portfolios/{portfolio_id}", responses=_NO_RECORD, tags=["portfolios"])
async def get_portfolio(request: Request, portfolio_id: PortfolioId) -> PortfolioView:
    return _view(PortfolioView, await _store(request).get(Entity.PORTFOLIOS, portfolio_id))


@router.get("/securities", tags=["securities"])
async def list_securities(
    request: Request,
    symbol: Annotated[str | None, Query(max_length=32, pattern=r"^[^\x00]+$")] = None,
    external_id: ExternalId = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[SecurityView]:
    """Newest first."""
    c = tables.securities.c
    wanted = {c.symbol: symbol, c.external_id: external_id}
    return await _page(request, Entity.SECURITIES, SecurityView, wanted, limit=limit, cursor=cursor)


@router.get("/securities/{security_id}", responses=_NO_RECORD, tags=["securities"])
async def get_security(request: Request, security_id: SecurityId) -> SecurityView:
    return _view(SecurityView, await _store(request).get(Entity.SECURITIES, security_id))


@router.get("/transactions", tags=["transactions"])
async def list_transactions(
    request: Request,
    *,
    portfolio_id: Annotated[UUID | None, Query(alias="portfolioId")] = None,
    kind: Annotated[TransactionType | None, Query(alias="type")] = None,
    external_id: ExternalId = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[TransactionView]:
    """Newest first: of one portfolio, or of all. One whose portfolio, client or security isn't there yet, or no more,
    is not shown."""
    c = tables.transactions.c
    wanted = {tables.portfolios.c.id: _text(portfolio_id), c.type: kind, c.external_id: external_id}
    return await _page(request, Entity.TRANSACTIONS, TransactionView, wanted, limit=limit, cursor=cursor)


@router.get("/transactions/{transaction_id}", responses=_NO_RECORD, tags=["transactions"])
async def get_transaction(request: Request, transaction_id: TransactionId) -> TransactionView:
    return _view(TransactionView, await _store(request).get(Entity.TRANSACTIONS, transaction_id))


def _text(row_id: UUID | None) -> str | None:
    return None if row_id is None else str(row_id)


def _store(request: Request) -> Store:
    """What the caller's tenant has."""
    return Store(services(request).db, caller_of(request).tenant)


async def _page(
    request: Request,
    entity: Entity,
    view: type[V],
    wanted: Mapping[sa.Column[Any], Any],
    *,
    limit: int,
    cursor: str | None,
) -> Page[V]:
    before = decode_cursor(cursor) if cursor is not None else None
    found = await _store(request).page(entity, wanted, before=before, limit=limit + 1)
    return Page.of(found, lambda row: _view(view, row), limit=limit, row_id=lambda row: row["id"])


def _view(view: type[V], row: sa.RowMapping) -> V:
    return view.model_validate({**row, "last_sync_date": row["last_sync_at"]})
