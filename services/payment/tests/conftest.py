"""A provider that keeps books as the real ones do, and the service's parts over a database in a temporary folder."""

import asyncio
import base64
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import sqlalchemy as sa
import structlog
from cryptography.fernet import Fernet
from fastapi import FastAPI

import payment
from chassis import migrations
from chassis.ids import new_id, now
from payment.api.invoked import ProcessPayment, RefundPayment, process, refund
from payment.app import assemble, create_app
from payment.domain import Absent, Approved, Charge, Declined, Outcome, Refund, Refused, Unknown
from payment.services import Services
from payment.settings import Settings
from payment.tables import metadata, moves, outbox, payments, refund_keys, refunds
from payment.webhooks import Delivery
from stack.fake_sidecar import FakeSidecar
from stack.issuer import Issuer
from stack.serving import serving

ONLY_A = ({"weights": {"a": 1}},)
A_THEN_B = ({"weights": {"a": 1, "b": 0}},)
APP_TOKEN = "app-token-of-the-tests"
WEBHOOK_SECRETS = orjson.dumps({"a": "whsec_" + base64.b64encode(b"a secret of the tests' own, 24+").decode()}).decode()
SEAL_KEY = Fernet.generate_key().decode()


class FakeProvider:
    """Honours keys as Stripe does: the same key moves money once, however often it is posted; what was refused under it
    stays refused, and another amount under it is refused too.

    `next_posts` says what becomes of the coming posts: `lost` does the work and drops the answer, `late` does the work
    only when `catch_up` is called, `down` does nothing and answers nothing, `decline` and `refuse` answer so; empty is
    well. `blind` makes every look-up unanswered. `money` has the minor units that each key moved.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.money: dict[str, int] = {}
        self.asked: dict[str, int] = {}
        self.refused: set[str] = set()
        self.late: list[tuple[str, int, dict[str, Any]]] = []
        self.on_booked: Callable[[str], Awaitable[None]] | None = None
        self.charges: dict[str, Approved | Declined] = {}
        self.refunds: dict[str, Approved] = {}
        self.posts: list[str] = []
        self.lookups: list[str] = []
        self.next_posts: deque[str] = deque()
        self.blind = False
        self.tokens: list[str | None] = []
        self.may_begin, self.may_answer = asyncio.Event(), asyncio.Event()
        self.may_begin.set()
        self.may_answer.set()

    @property
    def captured(self) -> list[str]:
        return [key for key, outcome in self.charges.items() if isinstance(outcome, Approved)]

    async def charge(self, charge: Charge) -> Outcome:
        self.tokens.append(charge.card_token)
        return await self._post(charge.key, charge.amount, self.charges)

    async def look_up_charge(self, charge: Charge) -> Outcome | Absent:
        return self._look_up(charge.key, self.charges)

    async def refund(self, refund: Refund, of: Charge) -> Outcome:
        assert of.transaction_id == f"tx{self.name}-{of.key}"  # no other provider's
        return await self._post(refund.provider_key, refund.amount, self.refunds)

    async def look_up_refund(self, refund: Refund) -> Outcome | Absent:
        return self._look_up(refund.provider_key, self.refunds)

    def catch_up(self) -> None:
        for key, amount, book in self.late:
            self._book(key, amount, book)
        self.late.clear()

    def _book(self, key: str, amount: int, book: dict[str, Any]) -> Outcome:
        self.money.setdefault(key, amount)
        return book.setdefault(key, Approved(transaction_id=f"tx{self.name}-{key}"))

    async def _post(self, key: str, amount: int, book: dict[str, Any]) -> Outcome:
        self.posts.append(key)
        await self.may_begin.wait()
        fate = self.next_posts.popleft() if self.next_posts else "well"
        if key in self.refused or self.asked.setdefault(key, amount) != amount:
            return Refused(reason="refused by the provider (400)")
        if fate == "down":
            return Unknown(reason="no answer")
        if fate == "refuse" or (fate == "decline" and book is self.refunds):  # a refund knows no decline
            self.refused.add(key)
            return Refused(reason="refused by the provider (400)")
        if fate == "late":
            self.late.append((key, amount, book))
            return Unknown(reason="no answer")
        if fate == "decline":
            outcome = book.setdefault(key, Declined(reason="insufficient_funds"))
        else:
            outcome = self._book(key, amount, book)
        if self.on_booked is not None:
            await self.on_booked(key)
        await self.may_answer.wait()
        return Unknown(reason="no answer") if fate == "lost" else outcome

    def _look_up(self, key: str, book: dict[str, Any]) -> Outcome | Absent:
        self.lookups.append(key)
        if self.blind:
            return Unknown(reason="no answer")
        return book.get(key, Absent())


@dataclass(kw_only=True)
class Till:
    """The parts of one process, asked as the routes ask them."""

    parts: Services
    defaults: dict[str, Any] = field(
        default_factory=lambda: {
            "key": "o-1:charge",
            "order_id": "o-1",
            "amount": "9.00",
            "currency": "USD",
            "payment_method": "credit_card",
            "card_token": "tok_ok",
        }
    )

    async def pay(self, *, tenant: str = "default", **wanted: Any):
        return await process(self.parts, tenant, ProcessPayment.model_validate(self.defaults | wanted, by_name=True))

    async def settle(self, **wanted: Any):
        return await self.pay(settle_only=True, **wanted)

    async def give_back(self, payment_id: str, amount: str, key: str = "o-1:refund", *, tenant: str = "default"):
        wanted = {"key": key, "paymentId": payment_id, "amount": amount}
        return await refund(self.parts, tenant, RefundPayment.model_validate(wanted))

    async def sweep(self) -> None:
        await self.parts.charge_driver.sweep()
        await self.parts.refund_driver.sweep()

    async def charge_row(self, key: str = "o-1:charge"):
        return await self._row(payments, key)

    async def refund_row(self, key: str = "o-1:refund"):
        return await self._row(refunds, key)

    async def _row(self, table: sa.Table, key: str):
        query = sa.select(table).where(table.c.key == key)
        return await self.parts.db.read(lambda conn: conn.execute(query).one())

    async def refund_rows(self):
        return await self.parts.db.read(lambda conn: conn.execute(sa.select(refunds).order_by(refunds.c.id)).all())

    async def moves(self):
        """Oldest first."""
        return await self.parts.db.read(lambda conn: conn.execute(sa.select(moves).order_by(moves.c.id)).all())

    async def events(self):
        """Each row of the outbox, oldest first, with its data parsed."""
        rows = await self.parts.db.read(lambda conn: conn.execute(sa.select(outbox).order_by(outbox.c.seq)).all())
        return [(row, orjson.loads(row.data)) for row in rows]

    async def age(self, by: timedelta) -> None:
        """As if everything on record had happened that much earlier."""
        times = ("created_at", "first_posted_at", "posted_until", "next_check_at", "claimed_until")

        def work(conn: sa.Connection) -> None:
            for table in (payments, refunds):
                for row in conn.execute(sa.select(table)).mappings().all():
                    values = {name: row[name] - by for name in times if row[name] is not None}
                    conn.execute(sa.update(table).where(table.c.id == row["id"]).values(values))
            for key in conn.execute(sa.select(refund_keys)).mappings().all():
                mine = (refund_keys.c.tenant == key["tenant"], refund_keys.c.key == key["key"])
                conn.execute(sa.update(refund_keys).where(*mine).values(created_at=key["created_at"] - by))

        await self.parts.db.write(work)

    async def make_due(self) -> None:
        """The next check is now; nothing else has aged."""

        def work(conn: sa.Connection) -> None:
            for table in (payments, refunds):
                due = sa.update(table).where(table.c.next_check_at.is_not(None))
                conn.execute(due.values(next_check_at=now() - timedelta(seconds=1)))

        await self.parts.db.write(work)

    async def kill(self) -> None:
        """What was under way stops where it is; nothing is tidied up."""
        await self.parts.charge_driver.stop()
        await self.parts.refund_driver.stop()
        await self.parts.tasks.drain(within=0)
        await self.parts.db.stop()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, migrated once for all tests."""
    path = tmp_path_factory.mktemp("migrated") / "payment.db"
    migrations.upgrade(f"sqlite:///{path}", payment, metadata)
    return path


@pytest.fixture
def database(tmp_path: Path, migrated: Path) -> Path:
    copy = tmp_path / "payment.db"
    copy.write_bytes(migrated.read_bytes())
    return copy


@pytest.fixture
def settings(database: Path, issuer: Issuer) -> Callable[..., Settings]:
    def make(answer_seconds: float = 2.0, routes: Any = ONLY_A) -> Settings:
        values = {
            "app_api_token": APP_TOKEN,
            "auth_jwks_file": issuer.jwks_file,
            "PAYMENT_DATABASE_URL": f"sqlite:///{database}",
            "PAYMENT_ANSWER_SECONDS": answer_seconds,
            "PAYMENT_ROUTES": routes,
        }
        return Settings.model_validate(values)

    return make


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def sidecar() -> FakeSidecar:
    made = FakeSidecar()
    made.secrets |= {"seal-keys": SEAL_KEY, "provider-webhook-secrets": WEBHOOK_SECRETS, "payment-b-key": "key-of-b"}
    return made


Opened = Callable[..., Awaitable[Till]]


@pytest.fixture
async def opened(settings, provider, sidecar) -> AsyncIterator[Opened]:
    """Opens a till over the test's database; one that was killed can be opened again."""
    tills: list[Till] = []

    async def open_till(
        answer_seconds: float = 2.0, by_name: dict[str, Any] | None = None, routes: Any = ONLY_A
    ) -> Till:
        parts = assemble(settings(answer_seconds, routes), sidecar, by_name or {"a": provider})
        await parts.db.start()
        parts.sealer.unlock(SEAL_KEY)
        tills.append(Till(parts=parts))
        return tills[-1]

    yield open_till
    for till in tills:
        await till.kill()


@pytest.fixture
async def till(opened: Opened) -> Till:
    return await opened()


@pytest.fixture
def running(settings, sidecar) -> Callable[..., Any]:
    """The whole service, started and, when left, stopped; its client is the sidecar, with a call of order's."""

    @asynccontextmanager
    async def run(answer_seconds: float = 2.0, routes: Any = ONLY_A, **parts: Any) -> AsyncGenerator[httpx.AsyncClient]:
        app: FastAPI = create_app(settings(answer_seconds, routes), sidecar=sidecar, **parts)
        async with serving(app, {"dapr-api-token": APP_TOKEN, "X-Tenant-Id": "default"}) as client:
            yield client

    return run


@pytest.fixture
def bytes_on_disk(database: Path) -> Callable[[], bytes]:
    """Everything in the database's files, the log of what isn't checkpointed yet included."""

    def read() -> bytes:
        def files() -> Iterator[Path]:
            yield from database.parent.glob("payment.db*")

        return b"".join(file.read_bytes() for file in files())

    return read


@pytest.fixture
def capture() -> Any:
    """What is logged meanwhile, with what the context adds."""

    def begin() -> Any:
        return structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars])

    return begin


@pytest.fixture
def make_provider() -> type[FakeProvider]:
    return FakeProvider


@pytest.fixture
def a(provider: FakeProvider) -> FakeProvider:
    provider.name = "-a"
    return provider


@pytest.fixture
def b() -> FakeProvider:
    return FakeProvider("-b")


@pytest.fixture
def open_both(opened: Opened, a: FakeProvider, b: FakeProvider) -> Opened:
    """A till with both providers: charges go to A, and B stands in."""

    async def open_till(**how: Any) -> Till:
        return await opened(**{"by_name": {"a": a, "b": b}, "routes": A_THEN_B} | how)

    return open_till


def told(kind: str, *, key: str, amount: str = "9.00", currency: str = "USD", **more: Any) -> dict[str, Any]:
    """A webhook's body as the providers send it."""
    data = {
        "idempotencyKey": key,
        "transactionId": f"tx-{key}",
        "status": kind.partition(".")[2],
        "amount": amount,
        "currency": currency,
    }
    return {"type": kind, "timestamp": now().isoformat(), "data": data | more}


@pytest.fixture
def tell() -> Callable[..., Awaitable[None]]:
    """A webhook whose signature was found good."""

    async def take(till: Till, provider: str, kind: str, *, delivery_id: str | None = None, **of: Any) -> None:
        delivery = Delivery.model_validate(told(kind, **of))
        await till.parts.webhooks.take(provider, delivery_id or new_id(), delivery)

    return take


@pytest.fixture
def webhook_body() -> Callable[..., dict[str, Any]]:
    return told


PAID = {
    "key": "o-1:charge",
    "orderId": "o-1",
    "amount": "9.00",
    "currency": "USD",
    "paymentMethod": "credit_card",
    "cardToken": "tok_ok",
}


@dataclass(kw_only=True)
class Desk:
    """The whole service, as people and order meet it."""

    client: httpx.AsyncClient
    issuer: Issuer

    async def pay(self, *, tenant: str = "default", **wanted: Any) -> httpx.Response:
        return await self.client.post("/process-payment", json=PAID | wanted, headers={"X-Tenant-Id": tenant})

    async def give_back(
        self, payment_id: str, body: Any = None, *, key: str | None = "k", role: str = "admin", **who: Any
    ) -> httpx.Response:
        headers = self.issuer.bearer(role, **who) | ({"Idempotency-Key": key} if key is not None else {})
        content = body if isinstance(body, bytes) else orjson.dumps({} if body is None else body)
        headers["content-type"] = "application/json"
        return await self.client.post(f"/api/v1/payments/{payment_id}/refunds", content=content, headers=headers)

    async def ask(self, verb: str, path: str, body: Any = None, *, role: str = "admin", **who: Any) -> httpx.Response:
        headers = self.issuer.bearer(role, **who)
        return await self.client.request(verb, f"/api/v1/{path}", json=body, headers=headers)


@pytest.fixture
async def desk(running, provider, issuer) -> AsyncIterator[Desk]:
    async with running(by_name={"a": provider}) as client:
        yield Desk(client=client, issuer=issuer)


@pytest.fixture
def sql(database: Path) -> Callable[[Any], Any]:
    """Runs a statement beside the service."""

    def execute(statement: Any) -> Any:
        engine = sa.create_engine(f"sqlite:///{database}")
        with engine.begin() as connection:
            found = connection.execute(statement)
            rows = found.all() if found.returns_rows else []
        engine.dispose()
        return rows

    return execute
