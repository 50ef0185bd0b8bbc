"""Receipts: believed for their secret or signature, matched to one message, and never against a final word."""

import base64
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from chassis.ids import new_id, now
from chassis.redaction import RedactingExporter
from chassis.webhooks import NotSigned
from notification.api.receipts import router
from notification.domain import FINAL, ChannelName, Notification, Status
from notification.outcomes import Delivered, Receipt, Settled
from notification.queue.delivery_status import apply, take_early
from notification.queue.enqueue import enqueue
from notification.queue.record_outcome import early, settle
from notification.receipts.inbound import Receipts
from notification.receipts.signatures import ReceiptSignatures
from notification.recipients.contacts import Contact, Contacts
from notification.recipients.permission import admit
from notification.recipients.sending_rules import Suppress
from notification.recipients.stop_words import start, stop, wish_of
from notification.tables import contacts, early_receipts, notifications
from stack.eventually import eventually

LEASE = timedelta(seconds=30)

SECRET, OLDER_SECRET = "what stands in the address", "what stood there before"
LEGACY = "whsec_" + base64.b64encode(b"legacy's secret, of 24 bytes+").decode()
OLDER_LEGACY = "whsec_" + base64.b64encode(b"legacy's older secret, of 24+").decode()
SMTP = "whsec_" + base64.b64encode(b"smtp's secret, of 24 bytes and +").decode()
SECRETS = {"africas-talking": f"{SECRET}, {OLDER_SECRET}", "legacy": f"{LEGACY}, {OLDER_LEGACY}", "smtp": SMTP}
PHONE = "+254711000111"
AT = "africas-talking"
DELIVERED = Receipt(provider=AT, message_id="m-1", status=Status.DELIVERED)
FAILED = Receipt(provider=AT, message_id="m-1", status=Status.FAILED, error="Failed: UserIsInactive")


@pytest.fixture
def sent(db):
    """A notification as its provider took it; its id."""

    async def insert(message_id: str | None = "m-1", **values: Any) -> str:
        row: dict[str, Any] = {
            "id": new_id(),
            "tenant": "default",
            "effect": new_id(),
            "owner": "u-1",
            "event_id": "e-1",
            "subject_id": "",
            "version": 0,
            "recipient_id": "c-1",
            "channel": "sms",
            "address": PHONE,
            "template": "order-ready",
            "context": "{}",
            "status": Status.SENT,
            "attempts": 1,
            "provider": AT,
            "provider_message_id": message_id,
            "traceparent": "",
            "created_at": now(),
        } | values
        await db.write(lambda conn: conn.execute(sa.insert(notifications), row))
        return row["id"]

    return insert


@pytest.fixture
def kept(db):
    """The receipts that wait for their message."""

    async def read() -> list[Any]:
        return await db.read(lambda conn: list(conn.execute(sa.select(early_receipts))))

    return read


class Heard:
    """What was told of rows that moved, and how often somebody was woken."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []
        self.wakes = 0

    def told(self, _conn: sa.Connection, rows: Any) -> None:
        self.rows += [(row.id, row.status) for row in rows]

    def wake(self) -> None:
        self.wakes += 1


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def receipts(db, heard):
    return Receipts(db=db, announce=heard.told, wake=heard.wake)


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
async def client(receipts, spans, routed):
    signatures = ReceiptSignatures()
    signatures.unlock(json.dumps(SECRETS))
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(RedactingExporter(spans)))
    telemetry = {"tracer_provider": tracing, "metrics": False, "logs": False, "operation_spans": False}
    app = routed(router, telemetry=telemetry, receipts=receipts, signatures=signatures)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.fixture
def report(client):
    """Africa's Talking's: a form, and our secret in the address."""

    async def post(provider: str = AT, *, secret: str | None = SECRET, **form: str):
        query = {} if secret is None else {"secret": secret}
        return await client.post(f"/api/v1/receipts/{provider}", params=query, data=form)

    return post


@pytest.fixture
def signed(client):
    """As the specification says, without the library that verifies it."""

    async def post(provider: str, content: Any, *, secret: str, ago: float = 0):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        stamp, key = str(int(now().timestamp() - ago)), base64.b64decode(secret.removeprefix("whsec_"))
        signature = hmac.new(key, f"msg_1.{stamp}.".encode() + body, sha256).digest()
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": stamp,
            "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
        }
        return await client.post(f"/api/v1/receipts/{provider}", content=body, headers=headers)

    return post


# --- what a receipt moves ---


@pytest.mark.parametrize("status", [Status.DELIVERED, Status.BOUNCED, Status.FAILED])
async def test_a_receipt_ends_what_was_sent(db, sent, row, status):
    one = await sent()
    receipt = Receipt(provider=AT, message_id="m-1", status=status, error="why")
    moved = await db.write(lambda conn: apply(conn, receipt))
    assert [(it.id, it.status) for it in moved] == [(one, status)]
    after = await row(one)
    assert after.status == status
    assert (after.delivered_at is not None) == (status is Status.DELIVERED)
    assert after.error == (None if status is Status.DELIVERED else "why")


@pytest.mark.parametrize("final", sorted(FINAL))
@pytest.mark.parametrize("receipt", [DELIVERED, FAILED], ids=["delivered", "failed"])
async def test_no_receipt_moves_what_is_final(db, sent, row, kept, *, final, receipt):
    one = await sent(status=final)
    before = await row(one)
    assert await db.write(lambda conn: apply(conn, receipt)) == []
    assert await row(one) == before
    assert await kept() == []  # its message is known


async def test_a_repeated_receipt_is_told_of_once(receipts, sent, heard):
    one = await sent()
    for _ in range(2):
        await receipts.take(DELIVERED)
    assert heard.rows == [(one, "delivered")]
    assert heard.wakes == 1


async def test_what_is_told_fails_together_with_the_move(db, sent, row):
    def broken(_conn: sa.Connection, _rows: Any) -> None:
        raise RuntimeError

    one = await sent()
    with pytest.raises(RuntimeError):
        await Receipts(db=db, announce=broken, wake=lambda: None).take(DELIVERED)
    assert (await row(one)).status == "sent"


async def test_a_failed_message_that_is_just_sent_again_is_nobodys_to_send(db, sent, row):
    one = await sent(status=Status.SENDING, lease_until=now())
    await db.write(lambda conn: apply(conn, FAILED))
    after = await row(one)
    assert (after.status, after.lease_until, after.next_attempt_at) == ("failed", None, None)


async def test_the_same_name_at_another_provider_is_another_message(db, sent, row):
    other, one = await sent(provider="legacy"), await sent()
    await db.write(lambda conn: apply(conn, DELIVERED))
    assert [(await row(it)).status for it in (other, one)] == ["sent", "delivered"]


async def test_a_receipt_finds_its_message_in_whichever_tenant_that_is(db, sent, row):
    other, one = await sent("m-2"), await sent(tenant="other")
    await db.write(lambda conn: apply(conn, DELIVERED))
    assert [(await row(it)).status for it in (other, one)] == ["sent", "delivered"]


async def test_a_digest_takes_with_it_all_that_it_carried(receipts, sent, row, heard):
    carrier = await sent()
    carried = [await sent(None, digest_of=carrier, provider=None) for _ in range(2)]
    closed = await sent(None, digest_of=carrier, provider=None, status=Status.SUPPRESSED)
    waiting = await sent(None, digest_of="", provider=None, status=Status.QUEUED)
    await receipts.take(DELIVERED)
    assert [(await row(it)).status for it in (carrier, *carried)] == ["delivered"] * 3
    assert [(await row(it)).status for it in (closed, waiting)] == ["suppressed", "queued"]
    assert {it for it, _ in heard.rows} == {carrier, *carried}


# --- receipts that overtake ---


async def test_a_receipt_that_overtakes_its_answer_waits_for_it(db, sent, kept):
    for _ in range(2):
        assert await db.write(lambda conn: apply(conn, DELIVERED)) == []
    assert [(it.message_id, it.status) for it in await kept()] == [("m-1", "delivered")]
    one = await sent()
    moved = await db.write(lambda conn: take_early(conn, AT, ["m-0", "m-1"]))
    assert [(it.id, it.status) for it in moved] == [(one, "delivered")]
    assert await kept() == []
    assert await db.write(lambda conn: take_early(conn, AT, ["m-0", "m-1"])) == []


async def test_of_several_that_came_early_the_first_one_counts(db, sent, row):
    for receipt in (FAILED, DELIVERED):
        await db.write(lambda conn, it=receipt: apply(conn, it))
    one = await sent()
    await db.write(lambda conn: take_early(conn, AT, ["m-1"]))
    after = await row(one)
    assert (after.status, after.error) == ("failed", "Failed: UserIsInactive")


async def test_an_early_receipt_of_another_provider_stays(db, kept):
    await db.write(lambda conn: apply(conn, DELIVERED))
    await db.write(lambda conn: take_early(conn, "legacy", ["m-1"]))
    assert len(await kept()) == 1


async def test_a_receipt_that_meets_its_answer_half_way_is_not_missed(on_postgres, waiting):
    """Neither of two transactions sees what the other has not committed: one of them has to wait."""
    message = Notification(
        id=new_id(),
        tenant="default",
        effect="e-1",
        owner="u-1",
        event_id="e-1",
        recipient_id="c-1",
        channel=ChannelName.SMS,
        address=PHONE,
        category="OrderUpdates",
        template="order-ready",
        locale="en",
        context={},
        traceparent="",
        created_at=now(),
        lease_until=now() + LEASE,
    )
    answer = [Settled(notification=message, outcome=Delivered(provider=AT, message_id="m-1"), at=now())]

    def receive():
        with on_postgres.begin() as conn:
            apply(conn, DELIVERED)

    with on_postgres.begin() as conn:
        enqueue(conn, [message], at=now())
    with ThreadPoolExecutor(1) as provider:
        with on_postgres.begin() as conn:
            settle(conn, answer)
            assert early(conn, answer) == []
            receipt = provider.submit(receive)
            await eventually(lambda: receipt.done() or waiting(), within=30)
        receipt.result(timeout=30)
    with on_postgres.connect() as conn:
        assert conn.execute(sa.select(notifications.c.status)).scalar_one() == "delivered"


# --- Africa's Talking ---


@pytest.mark.parametrize(
    ("word", "reason", "status", "error"),
    [
        ("Success", "", "delivered", None),
        ("Failed", "UserIsInactive", "failed", "Failed: UserIsInactive"),
        ("Rejected", "UserInBlackList", "failed", "Rejected: UserInBlackList"),
        ("Expired", "", "failed", "Expired"),
        ("AbsentSubscriber", "", "failed", "AbsentSubscriber"),
        ("Failed", f"no such subscriber {PHONE}", "failed", "Failed"),
        ("Failed", "254711000111", "failed", "Failed"),
        ("Sent", "", "sent", None),
        ("Submitted", "", "sent", None),
        ("Buffered", "", "sent", None),
        ("Teleported", "", "sent", None),
    ],
)
async def test_africas_talkings_words(report, sent, row, kept, *, word, reason, status, error):
    one = await sent()
    form = {"id": "m-1", "status": word, "phoneNumber": PHONE, "networkCode": "63902", "retryCount": "0"}
    answer = await report(**form, **({"failureReason": reason} if reason else {}))
    assert (answer.status_code, answer.content) == (200, b"")
    after = await row(one)
    assert (after.status, after.error) == (status, error)
    assert await kept() == []


async def test_an_interim_word_after_the_last_one_changes_nothing(report, sent, row):
    one = await sent()
    for word in ("Success", "Sent", "Failed"):
        assert (await report(id="m-1", status=word)).status_code == 200
    assert (await row(one)).status == "delivered"


@pytest.mark.parametrize("secret", [None, "", "guessed", SECRET.upper(), LEGACY])
@pytest.mark.parametrize("provider", [AT, "africas-talking-inbound"])
async def test_without_our_secret_nothing_is_believed(report, sent, row, provider, secret):
    one = await sent()
    refused = await report(provider, secret=secret, id="m-1", status="Success")
    assert (refused.status_code, refused.json()["errorType"]) == (401, "receipt-not-signed")
    assert (await row(one)).status == "sent"


async def test_an_older_secret_is_good_while_they_rotate(report, sent, row):
    one = await sent()
    assert (await report(secret=OLDER_SECRET, id="m-1", status="Success")).status_code == 200
    assert (await row(one)).status == "delivered"


async def test_the_secret_and_the_phone_are_in_no_log_and_no_span(report, sent, spans):
    await sent()
    with capture_logs() as logs:
        await report(id="m-1", status="Success", phoneNumber=PHONE)
        await report(secret="guessed", id="m-1", status="Success", phoneNumber=PHONE)
        await report(id="m-1", phoneNumber=PHONE)
        await report("unheard-of", id="m-1", status="Success")
    exported = "".join(span.to_json() for span in spans.get_finished_spans())
    assert "/api/v1/receipts/africas-talking" in exported
    for hidden in (SECRET, SECRET.replace(" ", "+"), "guessed", PHONE):
        assert hidden not in exported
        assert hidden not in str(logs)


@pytest.mark.parametrize(
    ("form", "pointer"),
    [
        ({"status": "Success"}, "/id"),
        ({"id": "m-1"}, "/status"),
        ({"id": "m" * 129, "status": "Success"}, "/id"),
        ({"id": "m\x001", "status": "Success"}, "/id"),
    ],
)
async def test_a_malformed_report_is_pointed_at(report, form, pointer):
    refused = await report(**form)
    assert (refused.status_code, refused.json()["errorType"]) == (422, "invalid-request")
    assert [one["pointer"] for one in refused.json()["errors"]] == [pointer]


@pytest.mark.parametrize("body", [b"\xff\xfe", b"a=1&" * 100], ids=["no text", "too many fields"])
async def test_what_is_no_form_is_refused(client, body):
    refused = await client.post(f"/api/v1/receipts/{AT}", params={"secret": SECRET}, content=body)
    assert refused.status_code == 422


async def test_an_unknown_provider_is_not_found(report):
    unknown = await report("pigeon-post", id="m-1", status="Success")
    assert (unknown.status_code, unknown.json()["errorType"]) == (404, "provider-not-found")


# --- the legacy provider and e-mail ---


def told(status: str, **more: str) -> dict[str, Any]:
    return {"type": "sms.status", "data": {"transactionId": "m-1", "status": status, **more}}


@pytest.mark.parametrize(
    ("content", "status", "error"),
    [
        (told("Queued"), "sent", None),
        (told("Sent"), "sent", None),
        (told("Delivered"), "delivered", None),
        (told("Failed", error="UNREACHABLE"), "failed", "Failed: UNREACHABLE"),
        (told("Failed", error=f"{PHONE} is switched off"), "failed", "Failed"),
        (told("Failed"), "failed", "Failed"),
    ],
)
async def test_the_legacy_providers_words(signed, sent, row, *, content, status, error):
    one = await sent(provider="legacy")
    assert (await signed("legacy", content, secret=LEGACY)).status_code == 200
    after = await row(one)
    assert (after.status, after.error) == (status, error)


def mail(what: str, notification_id: str, **data: Any) -> dict[str, Any]:
    return {"type": f"email.{what}", "data": {"messageId": f"<{notification_id}@brewline>", **data}}


@pytest.mark.parametrize(
    ("kind", "data", "status", "error"),
    [
        ("delivered", {}, "delivered", None),
        ("bounced", {"kind": "permanent", "code": "550 5.1.1"}, "bounced", "bounced: 550 5.1.1"),
        ("bounced", {"kind": "permanent", "code": 550}, "bounced", "bounced: 550"),
        ("bounced", {"kind": "permanent", "code": "550 ada@example.com unknown"}, "bounced", "bounced"),
        ("bounced", {"kind": "transient", "code": "451"}, "sent", None),
    ],
)
async def test_what_becomes_of_an_e_mail(signed, sent, row, *, kind, data, status, error):
    known = new_id()
    one = await sent(known, id=known, provider="smtp", channel="email")
    assert (await signed("smtp", mail(kind, one, **data), secret=SMTP)).status_code == 200
    after = await row(one)
    assert (after.status, after.error) == (status, error)


async def test_a_mail_bounces_once_delivered_no_more(signed, sent, row):
    known = new_id()
    one = await sent(known, id=known, provider="smtp", channel="email")
    await signed("smtp", mail("delivered", one), secret=SMTP)
    await signed("smtp", mail("bounced", one, kind="permanent", code="550"), secret=SMTP)
    assert (await row(one)).status == "delivered"


async def test_an_older_signing_secret_is_good_while_they_rotate(signed):
    assert (await signed("legacy", told("Delivered"), secret=OLDER_LEGACY)).status_code == 200


@pytest.mark.parametrize(
    ("secret", "ago"), [(SMTP, 0), (LEGACY, 400), (LEGACY, -400)], ids=["another's secret", "too old", "too new"]
)
async def test_what_is_not_signed_by_the_provider_itself_is_not_believed(signed, sent, row, secret, ago):
    one = await sent(provider="legacy")
    refused = await signed("legacy", told("Delivered"), secret=secret, ago=ago)
    assert (refused.status_code, refused.json()["errorType"]) == (401, "receipt-not-signed")
    assert (await row(one)).status == "sent"


async def test_no_signature_at_all_is_not_believed_either(client):
    refused = await client.post("/api/v1/receipts/smtp", params={"secret": SECRET}, json=mail("delivered", "x"))
    assert refused.status_code == 401


@pytest.mark.parametrize("stamp", ["inf", "-inf", "nan", "1e308", "now", "", "\u0661"])
async def test_a_time_that_is_none_is_not_believed(client, stamp):
    headers = {"webhook-id": "m", "webhook-timestamp": stamp.encode(), "webhook-signature": "v1,AAAA"}
    refused = await client.post("/api/v1/receipts/legacy", content=b"{}", headers=headers)
    assert refused.status_code == 401


@pytest.mark.parametrize("signature", ["v1", "v1,", "v1,!", "v2,AAAA", "v1,AAAA,AAAA", ",", "\xe9"])
async def test_what_is_no_signature_is_not_believed(client, signature):
    headers = {"webhook-id": "m", "webhook-timestamp": f"{now().timestamp():.0f}"}
    headers = {**headers, "webhook-signature": signature.encode("latin-1")}
    refused = await client.post("/api/v1/receipts/legacy", content=b"\xff", headers=headers)
    assert refused.status_code == 401


async def test_a_receipt_is_taken_however_much_its_provider_has_to_say(report, signed, sent, row):
    """Refused, it would come again for a while and then be lost."""
    text, other = await sent(), await sent(provider="legacy")
    known = new_id()
    mailed = await sent(known, id=known, provider="smtp", channel="email")
    answers = [
        await report(id="m-1", status="Failed", failureReason="x" * 5000),
        await signed("legacy", told("Failed", error="x" * 5000), secret=LEGACY),
        await signed("smtp", mail("bounced", mailed, kind="permanent", code=None), secret=SMTP),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert [(await row(one)).error for one in (text, other, mailed)] == ["Failed", "Failed", "bounced"]


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        (told("Delivered") | {"type": "sms.poem"}, "/type"),
        ({"type": "sms.status", "data": {"status": "Delivered"}}, "/data/transactionId"),
        ([], ""),
        (b"{", ""),
    ],
)
async def test_a_malformed_event_is_pointed_at(signed, content, pointer):
    refused = await signed("legacy", content, secret=LEGACY)
    assert refused.status_code == 422
    assert [one["pointer"] for one in refused.json()["errors"]] == [pointer]


@pytest.mark.parametrize("secret", ["whsec_", "whsec_abcde"])
def test_a_signing_secret_that_is_none_is_noticed_before_any_receipt_is_refused_for_it(secret):
    with pytest.raises(ValueError, match="smtp's") as wrong:
        ReceiptSignatures().unlock(json.dumps(SECRETS | {"smtp": f"{SMTP},{secret}"}))
    assert secret not in str(wrong.value)


def test_before_the_secrets_are_read_nobody_is_believed():
    with pytest.raises(NotSigned):
        ReceiptSignatures().require_secret(AT, "")
    with pytest.raises(NotSigned):
        ReceiptSignatures().require_signature("smtp", b"", {})


# --- what phones answer ---


@pytest.mark.parametrize(
    "text",
    [
        "STOP",
        "stop",
        " Stop. ",
        "«STOP»",
        "StopAll",
        "stop all",
        "Unsubscribe!",
        "END",
        "quit\n",
        "cancel",
        "opt-out",
        "\uff33\uff34\uff2f\uff30",
        "\uff33\uff54\uff4f\uff50\uff01",
        "st\u200bop",
    ],
)
def test_a_stop_is_one_however_it_is_written(text):
    assert wish_of(text) is stop


@pytest.mark.parametrize("text", ["START", "unstop", " yes! "])
def test_a_start_undoes_it(text):
    assert wish_of(text) is start


@pytest.mark.parametrize("text", ["", "HELP", "don't stop", "stop it, please", "thank you", "STOP" + "!" * 2000, "…"])
def test_anything_else_is_none(text):
    assert wish_of(text) is None


@pytest.fixture
def feed(db):
    """Makes or changes a contact of `u`."""

    async def tell(whose: str, phone: str) -> None:
        tenant, recipient = whose.split("/")
        contact = Contact(id=recipient, owner="u", phone=phone, as_of=now())
        await db.write(lambda conn: Contacts(conn, tenant).feed(contact))

    return tell


OTHER_PHONE = "+254711000222"


@pytest.fixture
async def people(feed):
    """Three contacts of one phone, in two tenants, and one of another."""
    for whose, phone in (
        ("default/c-1", PHONE),
        ("default/c-2", PHONE),
        ("other/c-1", PHONE),
        ("other/c-9", OTHER_PHONE),
    ):
        await feed(whose, phone)


@pytest.fixture
def stopped(db):
    """Whose text messages are not to be sent, of all contacts as they are now."""

    def work(conn: sa.Connection) -> list[str]:
        rows = conn.execute(sa.select(contacts).order_by(contacts.c.tenant, contacts.c.id)).all()
        asked = admit(conn, [text_to(row) for row in rows], now())
        held = [one.message for one in asked if one.decision == Suppress("stopped")]
        return [f"{message.tenant}/{message.recipient_id}" for message in held]

    return lambda: db.read(work)


def text_to(contact: Any) -> Notification:
    return Notification(
        id=new_id(),
        tenant=contact.tenant,
        effect="",
        owner="",
        event_id="",
        recipient_id=contact.id,
        channel=ChannelName.SMS,
        address=contact.phone,
        category="System",
        template="test",
        locale="en",
        context={},
        traceparent="",
        created_at=now(),
        critical=True,
    )


@pytest.fixture
def text(report):
    """What somebody writes to our short code."""

    async def send(words: str, *, sender: str = PHONE, message_id: str | None = None):
        form = {"from": sender, "to": "20880", "text": words, "id": message_id or new_id(), "date": "2025-01-01"}
        return await report("africas-talking-inbound", **form)

    return send


EVERYWHERE = ["default/c-1", "default/c-2", "other/c-1"]


@pytest.mark.usefixtures("people")
async def test_a_stop_holds_for_everybody_with_that_phone_in_every_tenant(text, stopped):
    assert (await text("Stop")).status_code == 200
    assert await stopped() == EVERYWHERE
    assert (await text("START")).status_code == 200
    assert await stopped() == []


@pytest.mark.parametrize("sender", [PHONE, PHONE.removeprefix("+"), " 254711000111"])
@pytest.mark.usefixtures("people")
async def test_a_phone_is_known_with_its_plus_and_without(text, stopped, sender):
    await text("STOP", sender=sender)
    assert await stopped() == EVERYWHERE


@pytest.mark.parametrize("words", ["HELP", "thank you", ""])
@pytest.mark.usefixtures("people")
async def test_other_words_are_taken_and_change_nothing(text, stopped, words):
    assert (await text(words)).status_code == 200
    assert await stopped() == []


@pytest.mark.usefixtures("people")
async def test_a_stop_that_is_delivered_again_does_not_undo_a_start(text, stopped):
    await text("STOP", message_id="in-1")
    await text("START", message_id="in-2")
    assert (await text("STOP", message_id="in-1")).status_code == 200
    assert await stopped() == []


@pytest.mark.usefixtures("people")
async def test_a_sender_that_is_no_phone_is_nobody(text, stopped):
    assert (await text("STOP", sender="BANK")).status_code == 200
    assert await stopped() == []


@pytest.mark.usefixtures("people")
async def test_a_stop_is_the_numbers_whoever_gets_it_later(text, stopped, feed):
    await text("STOP")
    await feed("other/c-9", PHONE)
    await feed("third/c-1", PHONE)
    assert await stopped() == [*EVERYWHERE, "other/c-9", "third/c-1"]
    await text("START")
    assert await stopped() == []


@pytest.mark.usefixtures("people")
async def test_a_stop_stays_behind_with_the_number(text, stopped, feed):
    await text("STOP")
    await feed("default/c-1", OTHER_PHONE)
    assert await stopped() == ["default/c-2", "other/c-1"]


async def test_a_number_that_nobody_is_known_by_says_stop_as_well(text, stopped, feed):
    await text("STOP", sender=OTHER_PHONE)
    await feed("default/c-1", OTHER_PHONE)
    assert await stopped() == ["default/c-1"]
