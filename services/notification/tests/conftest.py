"""A mail server that can be told to misbehave, and the service around a database in a temporary folder."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from aiosmtpd.smtp import SMTP, Envelope, Session
from fastapi import FastAPI, Request
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send

import notification
from chassis import migrations, problems
from chassis.db import Database
from chassis.edge.auth import Caller
from chassis.edge.routes import Routes
from chassis.ids import new_id
from chassis.problems import Problem
from chassis.sidecar import Answer
from notification.app import REFUSALS, create_app
from notification.channels.email.channel import Email
from notification.settings import Settings
from notification.tables import metadata, notifications
from stack.fake_sidecar import FakeSidecar
from stack.issuer import Issuer
from stack.local import free_port
from stack.postgres import Postgres
from stack.serving import serving

APP_TOKEN = "app-token-of-the-tests"
_PARSE = BytesParser(_class=EmailMessage, policy=policy.default).parsebytes


class Inbox:
    """What was delivered, and what the server answers next: a list for RCPT, one for DATA; empty is well."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.raw: list[bytes] = []
        self.recipients: list[str] = []
        self.rcpt: list[str] = []
        self.data: list[str] = []
        self.sessions = 0
        self.hold = asyncio.Event()
        self.hold.set()

    async def handle_EHLO(self, _server: SMTP, session: Session, _env: Envelope, hostname: str, answers: list[str]):  # noqa: N802
        self.sessions += 1
        session.host_name = hostname
        return answers

    async def handle_RCPT(self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any):  # noqa: N802
        if self.rcpt:
            return self.rcpt.pop(0)
        envelope.rcpt_tos.append(address)
        self.recipients.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope):  # noqa: N802
        await self.hold.wait()
        answer = self.data.pop(0) if self.data else "250 OK"
        if answer == "hang up":
            assert server.transport
            server.transport.close()
            return "250 OK"
        if answer.startswith("250"):
            self.raw.append(envelope.original_content or b"")
            self.mails.append(_PARSE(self.raw[-1]))
        return answer


class MailServer:
    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.port = free_port()
        self._server: asyncio.Server | None = None
        self._open: set[Any] = set()

    async def start(self) -> None:
        def session() -> SMTP:
            made = SMTP(self.inbox, hostname="test", enable_SMTPUTF8=True, loop=asyncio.get_running_loop())
            self._open.add(made)
            return made

        self._server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for session in self._open:
            if session.transport is not None:
                session.transport.close()
        await asyncio.sleep(0.01)


@pytest.fixture
async def mail_server() -> AsyncIterator[MailServer]:
    server = MailServer(Inbox())
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def inbox(mail_server: MailServer) -> Inbox:
    return mail_server.inbox


@pytest.fixture
async def email(mail_server: MailServer) -> AsyncIterator[Email]:
    channel = Email(
        host="127.0.0.1",
        port=mail_server.port,
        sender="Brewline <orders@brewline.example>",
        connections=2,
    )
    yield channel
    await channel.close()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, migrated once for all tests."""
    path = tmp_path_factory.mktemp("migrated") / "notification.db"
    migrations.upgrade(f"sqlite:///{path}", notification, metadata)
    return path


@pytest.fixture
def database_url(tmp_path: Path, migrated: Path) -> str:
    copy = tmp_path / "notification.db"
    copy.write_bytes(migrated.read_bytes())
    return f"sqlite:///{copy}"


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.start()
    yield database
    await database.stop()


@pytest.fixture
def row(db: Database) -> Callable[[str], Awaitable[Any]]:
    """A notification as it stands."""

    async def read(notification_id: str) -> Any:
        query = sa.select(notifications).where(notifications.c.id == notification_id)
        return await db.read(lambda conn: conn.execute(query).one())

    return read


@pytest.fixture
def on_postgres(postgres_server: Postgres) -> Iterator[sa.Engine]:
    """An empty database of its own, for what two transactions that commit at once do to each other."""
    url = sa.make_url(postgres_server.create(f"n{new_id()}")).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, execution_options={"preserve_rowcount": True})  # as chassis.db's
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def waiting(on_postgres: sa.Engine) -> Callable[[], bool]:
    """Whether a transaction waits for another one's lock."""

    def look() -> bool:
        with on_postgres.connect() as conn:
            return conn.execute(sa.text("SELECT 1 FROM pg_locks WHERE NOT granted")).first() is not None

    return look


@pytest.fixture
def sidecar() -> FakeSidecar:
    fake = FakeSidecar(
        {
            "push/api/v1/notification": Answer(status=202, data={"id": "push_1"}),
            "order-service/person-data": Answer(status=200, data={"held": {"orders": []}}),
            "backoffice-service/person-data": Answer(status=200, data={"held": {"files": []}}),
            "datasource-service/person-data": Answer(status=200, data={"held": {"clients": []}}),
        }
    )
    fake.secrets |= {
        "unsubscribe-key": "u" * 43,
        "receipt-secrets": '{"africas-talking": "at-secret", "legacy": "whsec_bGVnYWN5", "smtp": "whsec_c210cA=="}',
        "africas-talking-key": "at-key",
        "legacy-sms-key": "legacy-key",
    }
    return fake


@pytest.fixture(scope="session")
def by_sidecar() -> dict[str, str]:
    """The header by which our sidecar proves itself."""
    return {"dapr-api-token": APP_TOKEN}


@pytest.fixture
def settings(database_url: str, mail_server: MailServer, issuer: Issuer) -> Settings:
    return Settings.model_validate(
        {
            "app_api_token": APP_TOKEN,
            "auth_jwks_file": issuer.jwks_file,
            "NOTIFICATION_DATABASE_URL": database_url,
            "NOTIFICATION_SMTP_PORT": mail_server.port,
        }
    )


Running = Callable[[], AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def running(settings: Settings, sidecar: FakeSidecar, issuer: Issuer, by_sidecar: dict[str, str]) -> Running:
    """The service, started and, when left, stopped; again over the same database the next time. Its client is the
    sidecar and an administrator of `default` at once."""

    @asynccontextmanager
    async def run() -> AsyncGenerator[httpx.AsyncClient]:
        app: FastAPI = create_app(settings, sidecar=sidecar)
        async with serving(app, by_sidecar | issuer.bearer("admin", sub="a-1")) as client:
            yield client

    return run


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with running() as client:
        yield client


@pytest.fixture
def event() -> Callable[..., dict[str, Any]]:
    """A whole CloudEvent of an order, as the sidecar delivers it; `data` is merged into the sample's."""

    def make(kind: str = "order.confirmed.v1", **data: Any) -> dict[str, Any]:
        envelope = {name: data.pop(name) for name in ("id", "tenantid", "traceparent") if name in data}
        sample = {
            "version": 2,
            "orderId": "o-1",
            "status": "confirmed",
            "customer": {"id": "c-1", "name": "Ada", "email": "ada@example.com", "phone": "+12025550123"},
            "items": [{"sku": "latte", "name": "Latte", "variation": "vanilla", "quantity": 2}],
            "total": {"amount": "9.00", "currency": "USD"},
            "location": "take-away",
        }
        head = {"specversion": "1.0", "id": new_id(), "source": "order-service", "type": kind, "topic": "orders"}
        return head | envelope | {"data": sample | data}

    return make


@pytest.fixture(scope="session")
def routed() -> Callable[..., ASGIApp]:
    """One resource's routes over the parts that they need; `who` says who a request is from."""

    def make(
        router: Routes,
        *,
        refusals: Mapping[type[Exception], Problem] = REFUSALS,
        who: Callable[[Request], Caller] | None = None,
        telemetry: TelemetryConfig | None = None,
        **made: Any,
    ) -> ASGIApp:
        app = FastAPI(telemetry=telemetry)
        problems.install(app, refusals)
        app.state.services = SimpleNamespace(**made)
        router.add_to(app)

        async def named(scope: Scope, receive: Receive, send: Send) -> None:
            if who is not None:
                scope.setdefault("state", {})["caller"] = who(Request(scope))
            await app(scope, receive, send)

        return named

    return make
