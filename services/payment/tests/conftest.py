"""A provider that keeps books as the real ones do, and the service's parts over a database in a temporary folder."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from fastapi import FastAPI

import payment
from chassis import migrations
from chassis.ids import now
from chassis.testing.fake_sidecar import FakeSidecar
from chassis.testing.issuer import Issuer
from payment.api import ProcessPayment, RefundPayment
from payment.app import Parts, assemble, create_app
from payment.domain import Absent, Approved, Charge, Declined, Outcome, Refund, Refused, Unknown
from payment.settings import Settings
from payment.tables import metadata, payments, refunds

APP_TOKEN = "app-token-of-the-tests"
SEAL_KEY = Fernet.generate_key().decode()


class FakeProvider:
    """Honours keys: the same key moves money once, however often it is posted.

    `next_posts` says what becomes of the coming posts: `lost` does the work and drops the answer, `down` does nothing
    and answers nothing, `decline` and `refuse` answer so; empty is well. `blind` makes every look-up unanswered.
    """

    def __init__(self) -> None:
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
        return await self._post(charge.key, self.charges)

    async def look_up_charge(self, charge: Charge) -> Outcome | Absent:
        return self._look_up(charge.key, self.charges)

    async def refund(self, refund: Refund, of: Charge) -> Outcome:
        assert of.transaction_id is not None
        return await self._post(refund.key, self.refunds)

    async def look_up_refund(self, refund: Refund) -> Outcome | Absent:
        return self._look_up(refund.key, self.refunds)

    async def _post(self, key: str, book: dict[str, Any]) -> Outcome:
        self.posts.append(key)
        await self.may_begin.wait()
        fate = self.next_posts.popleft() if self.next_posts else "well"
        if fate == "down":
            return Unknown(reason="no answer")
        if fate == "refuse":
            return Refused(reason="refused by the provider (400)")
        new = Declined(reason="insufficient_funds") if fate == "decline" else Approved(transaction_id=f"tx-{key}")
        outcome = book.setdefault(key, new)
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

    parts: Parts
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
        return await self.parts.api.process(tenant, ProcessPayment.model_validate(self.defaults | wanted))

    async def settle(self, **wanted: Any):
        return await self.pay(settle_only=True, **wanted)

    async def give_back(self, payment_id: str, amount: str, key: str = "o-1:refund", *, tenant: str = "default"):
        return await self.parts.api.refund(tenant, RefundPayment(key=key, payment_id=payment_id, amount=amount))

    async def sweep(self) -> None:
        await self.parts.api.charge_driver.sweep()
        await self.parts.api.refund_driver.sweep()

    async def charge_row(self, key: str = "o-1:charge"):
        return await self._row(payments, key)

    async def refund_row(self, key: str = "o-1:refund"):
        return await self._row(refunds, key)

    async def _row(self, table: sa.Table, key: str):
        query = sa.select(table).where(table.c.key == key)
        return await self.parts.db.read(lambda conn: conn.execute(query).one())

    async def age(self, by: timedelta) -> None:
        """As if everything on record had happened that much earlier."""
        times = ("created_at", "first_posted_at", "posted_until", "next_check_at", "claimed_until")

        def work(conn: sa.Connection) -> None:
            for table in (payments, refunds):
                for row in conn.execute(sa.select(table)).mappings().all():
                    values = {name: row[name] - by for name in times if row[name] is not None}
                    conn.execute(sa.update(table).where(table.c.id == row["id"]).values(values))

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
        await self.parts.api.charge_driver.stop()
        await self.parts.api.refund_driver.stop()
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


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture
def settings(database: Path, issuer: Issuer) -> Callable[..., Settings]:
    def make(answer_seconds: float = 2.0) -> Settings:
        values = {
            "app_api_token": APP_TOKEN,
            "auth_jwks_file": issuer.jwks_file,
            "PAYMENT_DATABASE_URL": f"sqlite:///{database}",
            "PAYMENT_ANSWER_SECONDS": answer_seconds,
        }
        return Settings.model_validate(values)

    return make


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def sidecar() -> FakeSidecar:
    made = FakeSidecar()
    made.secrets["seal-keys"] = SEAL_KEY
    return made


Opened = Callable[..., Awaitable[Till]]


@pytest.fixture
async def opened(settings, provider, sidecar) -> AsyncIterator[Opened]:
    """Opens a till over the test's database; one that was killed can be opened again."""
    tills: list[Till] = []

    async def open_till(answer_seconds: float = 2.0, by_name: dict[str, Any] | None = None) -> Till:
        parts = assemble(settings(answer_seconds), sidecar, by_name or {"a": provider})
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
    async def run(answer_seconds: float = 2.0, **parts: Any) -> AsyncGenerator[httpx.AsyncClient]:
        app: FastAPI = create_app(settings(answer_seconds), sidecar=sidecar, **parts)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                base_url="http://test",
                headers={"dapr-api-token": APP_TOKEN, "X-Tenant-Id": "default"},
            ) as client,
        ):
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
