"""Puts the outside world together."""

from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from functools import partial

from fastapi import FastAPI

from sandbox import push
from sandbox.controls import Controls
from sandbox.faults import Faults
from sandbox.gate import FaultGate
from sandbox.issuer import Issuer
from sandbox.keys import KeyRing
from sandbox.ledger import Books
from sandbox.mail import Inbox, MailServer
from sandbox.oauth import TokenEndpoint
from sandbox.payments import Dialect, Provider
from sandbox.provider_a import DialectA
from sandbox.provider_b import DialectB
from sandbox.records import Journal
from sandbox.settings import Settings
from sandbox.webhooks import Webhooks

# Which fault target stands behind which path; mail has no path.
PATHS = {DialectA.path: "payment-a", DialectB.path: "payment-b", push.PATH: "push"}
TARGETS = {*PATHS.values(), "smtp"}


def create_app(settings: Settings, *, faults: Faults) -> FastAPI:
    """The sandbox over the records in its data directory; the app's lifespan listens for mail and frees the files."""
    files = ExitStack()

    def journal(name: str) -> Journal:
        opened = Journal(settings.data_dir / f"{name}.jsonl")
        files.callback(opened.close)
        return opened

    webhooks = Webhooks(url=settings.webhook_url, secret=settings.secret("webhook-secret"), pause=faults.pause)
    dialects: dict[str, Dialect] = {"a": DialectA(), "b": DialectB(key=settings.secret("payment-b-key"))}
    books = {
        name: Books(provider=name, journal=journal(f"payment-{name}"), key_ttl=settings.key_ttl) for name in dialects
    }
    providers = [
        Provider(dialect, books=books[name], announce=partial(webhooks.announce, name))
        for name, dialect in dialects.items()
    ]
    inbox = Inbox(journal=journal("inbox"))
    pushes = push.PushProvider(journal=journal("push"), key_ttl=settings.key_ttl)
    mail_server = MailServer(inbox=inbox, faults=faults, host=settings.host, port=settings.smtp_port)
    issuer = Issuer(name=settings.issuer, keys=KeyRing(settings.data_dir))
    tokens = TokenEndpoint(issuer=issuer, audience=settings.audience, lifetime=settings.token_lifetime)
    controls = Controls(
        faults=faults,
        books=books,
        providers=providers,
        webhooks=webhooks,
        inbox=inbox,
        push=pushes,
        issuer=issuer,
        smtp_port=settings.smtp_port,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        with files:
            await mail_server.start()
            await webhooks.start()
            yield
            await webhooks.stop()
            mail_server.stop()

    app = FastAPI(title="Brewline sandbox", openapi_url=None, strict_content_type=False, lifespan=lifespan)
    app.add_middleware(FaultGate, faults=faults, paths=PATHS)
    # The busiest paths come first: routes are tried in order.
    for router in (*(provider.routes() for provider in providers), pushes.routes(), tokens.routes(), controls.routes()):
        app.include_router(router)
    return app
