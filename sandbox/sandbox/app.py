"""Puts the outside world together."""

import json
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from sandbox import inn8, push, sms_africas_talking, sms_legacy
from sandbox.authorize import AuthorizationEndpoint
from sandbox.controls import Controls
from sandbox.faults import Faults
from sandbox.gate import FaultGate
from sandbox.inn8_controls import Inn8Controls
from sandbox.issuer import Issuer
from sandbox.keys import KeyRing
from sandbox.ledger import Books
from sandbox.lists import Listed
from sandbox.mail import Inbox, MailServer
from sandbox.oauth import TokenEndpoint
from sandbox.payments import Dialect, Provider
from sandbox.postmaster import Postmaster
from sandbox.provider_a import DialectA
from sandbox.provider_b import DialectB
from sandbox.receipts import Receipts
from sandbox.records import Journal
from sandbox.settings import Settings
from sandbox.sign_in import SignIns
from sandbox.sms import Texts
from sandbox.webhooks import Webhooks

# Which fault target stands behind which path; mail has no path.
PATHS = {
    DialectA.path: "payment-a",
    DialectB.path: "payment-b",
    push.PATH: "push",
    sms_africas_talking.PATH: "sms",
    sms_legacy.PATH: "sms-legacy",
    **dict.fromkeys(inn8.PATHS, "inn8"),
}
TARGETS = {*PATHS.values(), "smtp"}


def create_app(settings: Settings, *, faults: Faults) -> FastAPI:
    """The sandbox over the records in its data directory; the app's lifespan listens for mail and frees the files."""
    files = ExitStack()

    def journal(name: str) -> Journal:
        opened = Journal(settings.data_dir / f"{name}.jsonl")
        files.callback(opened.close)
        return opened

    webhooks = Webhooks(
        url=settings.webhook_url,
        secrets=json.loads(settings.secret("provider-webhook-secrets") or "{}"),
        pause=faults.pause,
    )
    dialects: dict[str, Dialect] = {"a": DialectA(), "b": DialectB(key=settings.secret("payment-b-key"))}
    ledger = Listed()
    books = {
        name: Books(provider=name, journal=journal(f"payment-{name}"), ledger=ledger, key_ttl=settings.key_ttl)
        for name in dialects
    }
    ledger.sort()
    providers = [
        Provider(dialect, books=books[name], announce=partial(webhooks.announce, name))
        for name, dialect in dialects.items()
    ]
    inbox = Inbox(journal=journal("inbox"))
    pushes = push.PushProvider(journal=journal("push"), key_ttl=settings.key_ttl)
    receipts = Receipts(
        base=settings.receipt_url,
        secrets=json.loads(settings.secret("receipt-secrets") or "{}"),
        pause=faults.pause,
    )
    texts = Texts(journal=journal("sms"), key_ttl=settings.key_ttl)
    africas_talking = sms_africas_talking.AfricasTalking(
        key=settings.secret("africas-talking-key"),
        price=settings.sms_price,
        texts=texts,
        inbound=journal("sms-inbound"),
        receipts=receipts,
    )
    legacy_sms = sms_legacy.LegacySms(key=settings.secret("legacy-sms-key"), texts=texts, receipts=receipts)
    postmaster = Postmaster(receipts)
    mail_server = MailServer(
        inbox=inbox, postmaster=postmaster, faults=faults, host=settings.host, port=settings.smtp_port
    )
    issuer = Issuer(name=settings.issuer, keys=KeyRing(settings.data_dir))
    clients = inn8.Inn8(
        secret=settings.secret("inn8-client-secret"), manner=inn8.Manner.model_validate({"rows": settings.inn8_rows})
    )
    sign_ins = SignIns()
    tokens = TokenEndpoint(
        issuer=issuer, audience=settings.audience, lifetime=settings.token_lifetime, inn8=clients, sign_ins=sign_ins
    )
    people = AuthorizationEndpoint(name=settings.issuer, sign_ins=sign_ins, pages_url=settings.pages_url)
    controls = Controls(
        faults=faults,
        books=books,
        ledger=ledger,
        providers=providers,
        webhooks=webhooks,
        inbox=inbox,
        push=pushes,
        texts=texts,
        africas_talking=africas_talking,
        receipts=receipts,
        postmaster=postmaster,
        issuer=issuer,
        inn8=clients,
        smtp_port=settings.smtp_port,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        with files:
            for sender in (webhooks, receipts):
                await sender.start()
            await mail_server.start()
            yield
            mail_server.stop()
            for sender in (webhooks, receipts):
                await sender.stop()

    app = FastAPI(title="Brewline sandbox", openapi_url=None, strict_content_type=False, lifespan=lifespan)
    app.add_middleware(FaultGate, faults=faults, paths=PATHS)
    app.add_middleware(CORSMiddleware, allow_origins=[settings.pages_url], allow_methods=["*"], allow_headers=["*"])
    # The busiest paths come first: routes are tried in order.
    for party in (
        *providers,
        pushes,
        africas_talking,
        legacy_sms,
        tokens,
        people,
        clients,
        Inn8Controls(clients),
        controls,
    ):
        app.include_router(party.routes())
    return app
