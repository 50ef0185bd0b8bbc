"""A database in a temporary folder, a sidecar that plays payment, and a catalog small enough to run out."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

import order
from chassis import migrations
from chassis.cache import Cache
from chassis.changes.feed import Changes
from chassis.db import Database
from chassis.ids import new_id
from chassis.leases import Leases
from chassis.outbox import Outbox
from chassis.sealing import Sealer
from chassis.sidecar import Answer
from chassis.takeover import Takeover
from order import tables
from order.announcements import Announcements
from order.app import create_app
from order.catalog import Shipped, load_shipped
from order.catalogs import Catalogs
from order.requests import OrderRequest
from order.saga import WORKFLOW, OrderRef
from order.saga_store import Stores
from order.settings import Settings
from order.store import StoreParts
from order.system import SystemStore
from stack.fake_sidecar import FakeSidecar
from stack.issuer import Issuer
from stack.serving import serving

APP_TOKEN = "app-token-of-the-tests"
CATALOG: list[dict[str, Any]] = [
    {
        "sku": "latte",
        "name": "Latte",
        "featured": True,
        "stock": 5,
        "variations": [
            {"name": "plain", "price": {"amount": "4.00", "currency": "USD"}},
            {"name": "vanilla", "price": {"amount": "4.50", "currency": "USD"}},
        ],
    },
    {
        "sku": "tea",
        "name": "Tea",
        "stock": 1,
        "variations": [{"name": "black", "price": {"amount": "3.00", "currency": "USD"}}],
    },
]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, migrated once for all tests."""
    path = tmp_path_factory.mktemp("migrated") / "order.db"
    migrations.upgrade(f"sqlite:///{path}", order, tables.metadata)
    return path


@pytest.fixture
def database_url(tmp_path: Path, migrated: Path) -> str:
    copy = tmp_path / "order.db"
    copy.write_bytes(migrated.read_bytes())
    return f"sqlite:///{copy}"


@pytest.fixture(scope="session")
def catalog_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("catalog") / "catalog.json"
    file.write_bytes(orjson.dumps(CATALOG))
    return file


@pytest.fixture
def shipped(catalog_file: Path) -> Shipped:
    return load_shipped(catalog_file)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.start()
    yield database
    await database.stop()


@pytest.fixture
def stores(db: Database, shipped: Shipped, sidecar: FakeSidecar) -> Stores:
    leases = Leases(db, tables.leases)
    outbox = Outbox(db=db, table=tables.outbox, leases=leases, sidecar=sidecar, pubsub="pubsub")
    sealer = Sealer()
    sealer.unlock(Fernet.generate_key().decode())
    changes = Changes(db=db, table=tables.changes, leases=leases)
    cache = Cache(sidecar=sidecar, store="statestore", changes=changes, name="order")
    catalogs = Catalogs(db=db, cache=cache, shipped=shipped)
    announcements = Announcements(outbox=outbox, changes=changes)
    leased = {"driver_lease": timedelta(seconds=10), "past_timer": timedelta(seconds=60)}
    return Stores(StoreParts(db=db, announcements=announcements, sealer=sealer, catalogs=catalogs, **leased))


@pytest.fixture
def takeover(stores: Stores, db: Database, sidecar: FakeSidecar) -> Takeover[OrderRef]:
    return Takeover(
        workflow=WORKFLOW,
        sidecar=sidecar,
        due=SystemStore(db).due,
        postpone=stores.postpone,
        lease=timedelta(seconds=10),
        past_timer=timedelta(seconds=60),
    )


@pytest.fixture
def sidecar() -> FakeSidecar:
    """Payment behind a sidecar, keyed as the real one: `tok_declined`, `tok_failed` and `tok_unknown` say what it does.

    `tok_unknown` is charged by a second call (settling or not), as when reconciliation found the charge.
    """
    charged: dict[str, dict[str, Any]] = {}

    def process(body: Any) -> Answer:
        kind = str(body["cardToken"]).removeprefix("tok_")
        known = charged.get(body["key"])
        status = {"declined": "declined", "failed": "failed", "unknown": "processing"}.get(kind, "succeeded")
        if known is None and body["settleOnly"]:
            status = "failed"
        elif known is not None:
            status = "succeeded" if known["status"] == "processing" else known["status"]
        answer = {"paymentId": "p-1", "status": status, "transactionId": "tx-1", "errorMessage": None}
        charged[body["key"]] = answer
        return Answer(status=200, data=answer)

    made = FakeSidecar(
        {
            "payment-service/process-payment": process,
            "payment-service/refund-payment": Answer(status=200, data={"status": "succeeded"}),
        }
    )
    made.alive = True
    return made


@pytest.fixture
def wanted() -> Callable[..., dict[str, Any]]:
    """The body of an order; what is given replaces the sample's."""

    def make(sku: str = "latte", quantity: int = 1, token: str = "tok_ok", **other: Any) -> dict[str, Any]:
        sample = {
            "customer": {"id": "c-1", "name": "Ada", "email": "ada@example.com", "phone": "+12025550123"},
            "items": [{"sku": sku, "quantity": quantity}],
            "location": "take-away",
            "currency": "USD",
            "payment": {"method": "credit_card", "token": token},
        }
        return sample | other

    return make


@pytest.fixture
def placed(stores: Stores, wanted: Callable[..., dict[str, Any]]) -> Callable[..., Awaitable[OrderRef]]:
    """Places an order of tenant `default` in the store and gives its reference."""

    async def place(*args: Any, **other: Any) -> OrderRef:
        request = OrderRequest.model_validate(wanted(*args, **other))
        order_id = new_id()
        await stores.of("default").place(order_id, request, owner="anonymous")
        return OrderRef(tenant="default", id=order_id)

    return place


@pytest.fixture
def rows(database_url: str) -> Callable[[str], list[Any]]:
    """What a query finds on disk, seen by a connection of its own."""

    def look(query: str) -> list[Any]:
        engine = sa.create_engine(database_url, poolclass=sa.pool.NullPool)
        with engine.connect() as conn:
            return list(conn.execute(sa.text(query)))

    return look


@pytest.fixture
def behind(database_url: str) -> Callable[[str], None]:
    """A statement behind the service's back."""

    def change(statement: str) -> None:
        engine = sa.create_engine(database_url, poolclass=sa.pool.NullPool)
        with engine.begin() as conn:
            conn.execute(sa.text(statement))

    return change


@pytest.fixture
def left(rows: Callable[[str], list[Any]]) -> Callable[[str], int | None]:
    """How much of a sku is on stock; None before anybody asked for any."""

    def look(sku: str) -> int | None:
        return next((row.available for row in rows("SELECT * FROM stock") if row.sku == sku), None)

    return look


@pytest.fixture
def announced(rows: Callable[[str], list[Any]]) -> Callable[[str], list[tuple[str, int]]]:
    """The events of an order in the outbox, in order: what happened, and the version that it made."""

    def look(order_id: str) -> list[tuple[str, int]]:
        found = [row for row in rows("SELECT * FROM outbox ORDER BY seq") if row.aggregate_id == order_id]
        return [(row.type.split(".")[1], orjson.loads(row.data)["version"]) for row in found]

    return look


@pytest.fixture
def settings(database_url: str, catalog_file: Path, issuer: Issuer) -> Settings:
    return Settings.model_validate(
        {
            "app_api_token": APP_TOKEN,
            "rate_limit": "",  # what the state store holds is looked at
            "auth_jwks_file": issuer.jwks_file,
            "ORDER_DATABASE_URL": database_url,
            "ORDER_CATALOG_FILE": catalog_file,
        }
    )


@pytest.fixture
def running(settings: Settings, issuer: Issuer) -> Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]:
    """The service beside the given sidecar, started and, when left, stopped; its client is staff of `default`."""

    @asynccontextmanager
    async def run_service(beside: FakeSidecar, **changed: Any) -> AsyncGenerator[httpx.AsyncClient]:
        app = create_app(settings.model_copy(update=changed), sidecar=beside)
        async with serving(app, issuer.bearer("staff", sub="s-1")) as client:
            yield client

    return run_service


@pytest.fixture
async def client(
    running: Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]], sidecar: FakeSidecar
) -> AsyncIterator[httpx.AsyncClient]:
    async with running(sidecar) as client:
        yield client
