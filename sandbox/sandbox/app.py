"""Puts the outside world together."""

from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager

from fastapi import FastAPI

from sandbox import payments, push
from sandbox.controls import Controls
from sandbox.faults import Faults
from sandbox.gate import FaultGate
from sandbox.issuer import Issuer
from sandbox.keys import KeyRing
from sandbox.ledger import Books
from sandbox.mail import Inbox, MailServer
from sandbox.oauth import TokenEndpoint
from sandbox.records import Journal
from sandbox.settings import Settings

# Which fault target stands behind which path; mail has no path.
PATHS = {payments.PATH: "payment-a", push.PATH: "push"}
TARGETS = {*PATHS.values(), "smtp"}


def create_app(settings: Settings, *, faults: Faults) -> FastAPI:
    """The sandbox over the records in its data directory; the app's lifespan listens for mail and frees the files."""
    files = ExitStack()

    def journal(name: str) -> Journal:
        opened = Journal(settings.data_dir / f"{name}.jsonl")
        files.callback(opened.close)
        return opened

    books = Books(provider="a", journal=journal("payment-a"), key_ttl=settings.key_ttl)
    provider_a = payments.ProviderA(books)
    inbox = Inbox(journal=journal("inbox"))
    pushes = push.PushProvider(journal=journal("push"), key_ttl=settings.key_ttl)
    mail_server = MailServer(inbox=inbox, faults=faults, host=settings.host, port=settings.smtp_port)
    issuer = Issuer(name=settings.issuer, keys=KeyRing(settings.data_dir))
    tokens = TokenEndpoint(issuer=issuer, audience=settings.audience, lifetime=settings.token_lifetime)
    controls = Controls(
        faults=faults,
        books=[books],
        provider_a=provider_a,
        inbox=inbox,
        push=pushes,
        issuer=issuer,
        smtp_port=settings.smtp_port,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        with files:
            await mail_server.start()
            yield
            mail_server.stop()

    app = FastAPI(title="Brewline sandbox", openapi_url=None, strict_content_type=False, lifespan=lifespan)
    app.add_middleware(FaultGate, faults=faults, paths=PATHS)
    # The busiest paths come first: routes are tried in order.
    for router in (provider_a.routes(), pushes.routes(), tokens.routes(), controls.routes()):
        app.include_router(router)
    return app
