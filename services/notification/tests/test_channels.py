import asyncio
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

import pytest

from chassis.ids import new_id
from chassis.sidecar import Answer
from chassis.testing.fake_sidecar import FakeSidecar
from notification.channels.mime import compose
from notification.channels.push import Push
from notification.domain import ChannelName, Delivered, Notification, Postponed, Refused

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
PATH = "push/api/v1/notification"


def body(mail, kind):
    return mail.get_body((kind,)).get_content().replace("\r\n", "\n")


@pytest.fixture
def message(event):
    def make(**changes):
        data = event()["data"] | {"order_id": "o-1"} | changes.pop("context", {})
        sample: dict[str, Any] = {
            "id": new_id(),
            "tenant": "default",
            "owner": "u-1",
            "event_id": "e-1",
            "order_id": "o-1",
            "version": 2,
            "recipient_id": "c-1",
            "address": "ada@example.com",
            "channel": ChannelName.EMAIL,
            "template": "order_confirmed",
            "context": data,
            "traceparent": TRACE,
            "created_at": datetime.now(UTC),
        }
        return Notification(**sample | changes)

    return make


async def test_an_email_arrives_with_what_finds_its_order_and_trace(email, inbox, message):
    sent = message()
    assert await email.send(sent) == Delivered("Thank you, Ada: your order is confirmed")
    mail = inbox.mails[0]
    assert mail["Message-ID"] == f"<{sent.id}@brewline>"
    assert mail["From"] == "Brewline <orders@brewline.example>"
    assert mail["To"] == "ada@example.com"
    assert mail["X-Brewline-Order"] == "o-1"
    assert mail["traceparent"] == TRACE
    assert "2 x Latte (vanilla)" in body(mail, "plain")
    assert "<td" in body(mail, "html")


async def test_many_emails_share_a_connection(email, inbox, message):
    for _ in range(5):
        await email.send(message())
    assert (len(inbox.mails), inbox.sessions) == (5, 1)


async def test_a_lost_connection_is_made_again(email, inbox, mail_server, message):
    await email.send(message())
    await mail_server.stop()
    assert await email.send(message()) == Postponed("smtp: SMTPConnectError")
    await mail_server.start()
    assert isinstance(await email.send(message()), Delivered)
    assert inbox.sessions == 2


async def test_a_hang_up_during_a_message_is_tried_again_later(email, inbox, message):
    inbox.data = ["hang up"]
    assert await email.send(message()) == Postponed("smtp: SMTPServerDisconnected")
    assert isinstance(await email.send(message()), Delivered)


async def test_a_refused_recipient_is_final_and_costs_no_connection(email, inbox, message):
    inbox.rcpt = ["550 no such user ada@example.com"]
    assert await email.send(message()) == Refused("smtp 550")
    assert isinstance(await email.send(message()), Delivered)
    assert inbox.sessions == 1


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [("451 later", Postponed("smtp 451")), ("421 closing", Postponed("smtp 421")), ("554 spam", Refused("smtp 554"))],
)
async def test_a_refused_message_is_final_only_with_a_5xx(email, inbox, message, answer, outcome):
    inbox.data = [answer]
    assert await email.send(message()) == outcome
    assert isinstance(await email.send(message()), Delivered)


@pytest.mark.parametrize(
    "address", ["ada", "a b@example.com", "ada@example.com>\r\nRCPT TO:<eve@x.org", "a@b, c@d", ""]
)
async def test_an_address_that_can_not_be_used_is_refused_before_a_word_is_said(email, inbox, message, address):
    assert await email.send(message(address=address)) == Refused("the address can't be used")
    assert inbox.sessions == 0


async def test_an_address_beyond_ascii_arrives(email, inbox, message):
    assert isinstance(await email.send(message(address="zoë@exämple.com")), Delivered)
    assert inbox.mails[0]["To"] == "zoë@exämple.com"


async def test_a_context_that_lacks_something_is_final(email, message):
    assert await email.send(message(template="order_shipped")) == Refused("template order_shipped: UndefinedError")


@pytest.mark.parametrize(
    "name", ["Ada", "Zoë ☕ " + "é" * 300, "=?utf-8?q?fake?=", "Ada\r\nBcc: eve@example.com", "\n.\nMAIL FROM:<x@y.z>"]
)
async def test_any_name_leaves_the_message_whole(email, inbox, message, name):
    context = {"customer": {"id": "c-1", "name": name, "email": "ada@example.com"}}
    outcome = await email.send(message(context=context))
    mail = inbox.mails[0]
    assert mail["Bcc"] is None
    assert mail["Subject"] == outcome.subject
    assert body(mail, "plain").startswith("Hello " + name.replace("\r", ""))
    assert not mail.defects
    assert all(len(line) <= 78 for line in inbox.raw[0].splitlines())


def test_a_message_by_hand_reads_as_one_by_the_library():
    text, html = "Grüße\n\n.leading dot\n--=_boundary\ntrailing \n", "<p>" + "ö" * 500 + "</p>\n"
    raw = compose(
        sender="Brewline <orders@brewline.example>",
        to="ada@example.com",
        subject="Grüße",
        text=text,
        html=html,
        message_id="1",
        at=datetime(2025, 1, 1, tzinfo=UTC),
        extra={},
    )
    mail = BytesParser(_class=EmailMessage, policy=policy.default).parsebytes(raw)
    assert mail["Subject"] == "Grüße"
    assert mail["Date"].datetime == datetime(2025, 1, 1, tzinfo=UTC)
    assert body(mail, "plain") == text
    assert body(mail, "html") == html
    assert b"\n" not in raw.replace(b"\r\n", b"")


async def test_two_sends_use_two_connections(email, inbox, message):
    inbox.hold.clear()
    both = [asyncio.create_task(email.send(message())) for _ in range(2)]
    await asyncio.sleep(0.05)
    inbox.hold.set()
    await asyncio.gather(*both)
    assert inbox.sessions == 2


# --- push ---


async def test_a_push_says_what_the_provider_expects(message):
    sidecar = FakeSidecar({PATH: Answer(status=202, data=None)})
    push = Push(sidecar=sidecar, endpoint="push")
    pushed = message(channel=ChannelName.PUSH, template="order_status", context={"status": "prepared"})
    assert await push.send(pushed) == Delivered()
    body = {"type": "order_status", "orderId": "o-1", "status": "prepared", "customerEmail": "ada@example.com"}
    assert sidecar.invoked == [(PATH, body)]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(status=503, data=None), Postponed("push 503")),
        (Answer(status=429, data=None), Postponed("push 429")),
        (Answer(status=409, data=None), Postponed("push 409")),
        (Answer(status=422, data={"error": "bad"}), Refused("push 422")),
        (Answer(status=404, data={"errorCode": "ERR_DIRECT_INVOKE"}), Postponed("push: ERR_DIRECT_INVOKE")),
    ],
)
async def test_a_push_is_refused_only_by_the_provider_itself(message, answer, outcome):
    push = Push(sidecar=FakeSidecar({PATH: answer}), endpoint="push")
    assert await push.send(message(context={"status": "shipped"})) == outcome


async def test_a_push_without_a_sidecar_waits(message):
    sidecar = FakeSidecar()
    sidecar.alive = False
    assert await Push(sidecar=sidecar, endpoint="push").send(message(context={"status": "shipped"})) == Postponed(
        "push: sidecar down"
    )
