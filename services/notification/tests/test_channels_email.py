"""The channel against a mail server that isn't ours, in the clear and over TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult

from chassis.ids import new_id
from notification.channels.email.channel import Email, greets
from notification.domain import Message, Rendered
from notification.outcomes import Delivered, Postponed, Refused
from stack.local import free_port

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


class Moody(SMTP):
    """`farewells` answer MAIL, and end the connection."""

    farewells: list[str]

    async def smtp_MAIL(self, arg: str) -> None:  # noqa: N802
        if not self.farewells:
            return await super().smtp_MAIL(arg)
        if farewell := self.farewells.pop(0):
            await self.push(farewell)
        assert self.transport
        self.transport.close()
        return None


class Authority:
    """Who signs certificates, and one of it for localhost."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.file = folder / f"{id(self)}.pem"
        authority.cert_pem.write_to_path(str(self.file))
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.server)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class Serve:
    """Starts servers that deliver into `inbox`."""

    def __init__(self, inbox: Any) -> None:
        self.inbox = inbox
        self.farewells: list[str] = []
        self._servers: list[asyncio.Server] = []
        self._sessions: list[SMTP] = []

    async def __call__(self, *, implicit: ssl.SSLContext | None = None, **options: Any) -> int:
        def session() -> SMTP:
            made = Moody(self.inbox, hostname="test", enable_SMTPUTF8=True, **options)
            made.farewells = self.farewells
            self._sessions.append(made)
            return made

        port = free_port()
        self._servers.append(await asyncio.get_running_loop().create_server(session, "localhost", port, ssl=implicit))
        return port

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for session in self._sessions:
            if session.transport is not None:
                session.transport.close()
        await asyncio.sleep(0.01)  # the loop closes them


@pytest.fixture
async def serve(inbox) -> AsyncIterator[Serve]:
    made = Serve(inbox)
    yield made
    await made.stop()


@pytest.fixture
async def opened() -> AsyncIterator[Callable[..., Email]]:
    made: list[Email] = []

    def open_one(port: int, **changes: Any) -> Email:
        options: dict[str, Any] = {
            "host": "localhost",
            "port": port,
            "sender": "Brewline <orders@brewline.example>",
            "connections": 2,
        }
        made.append(Email(**options | changes))
        return made[-1]

    yield open_one
    for each in made:
        await each.close()


@pytest.fixture
async def email(serve, opened) -> Email:
    return opened(await serve())


def message(**changes: Any) -> Message:
    words = {"subject": "Thank you, Ada", "text": "2 x Latte\n", "html": "<td>2 x Latte</td>\n"}
    sample: dict[str, Any] = {
        "id": new_id(),
        "tenant": "default",
        "address": "ada@example.com",
        "rendered": Rendered(**words | changes.pop("words", {})),
        "context": {},
        "template": "order_confirmed",
        "subject_id": "o-1",
        "critical": False,
        "traceparent": TRACE,
    }
    return Message(**sample | changes)


async def test_an_email_arrives_with_what_finds_its_order_and_trace(email, inbox):
    sent = message()
    assert await email.send(sent) == Delivered(
        subject="Thank you, Ada", content=sent.rendered.text, provider="smtp", message_id=f"<{sent.id}@brewline>"
    )
    mail = inbox.mails[0]
    assert mail["Message-ID"] == f"<{sent.id}@brewline>"
    assert mail["From"] == "Brewline <orders@brewline.example>"
    assert mail["To"] == "ada@example.com"
    assert mail["X-Brewline-Order"] == "o-1"
    assert mail["traceparent"] == TRACE
    assert "2 x Latte" in mail.get_body(("plain",)).get_content()
    assert "<td" in mail.get_body(("html",)).get_content()


async def test_one_click_unsubscribe_stands_in_the_headers(email, inbox):
    link = f"<https://brewline.example/u/{'a' * 200}>"
    headers = {"List-Unsubscribe": link, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    await email.send(message(headers=headers))
    assert inbox.mails[0]["List-Unsubscribe"] == link
    assert inbox.mails[0]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


async def test_a_message_with_no_body_is_refused_before_a_word_is_said(email, inbox):
    outcome = await email.send(message(words={"text": "", "html": ""}))
    assert outcome == Refused("template order_confirmed has no body for email", provider="smtp")
    assert inbox.sessions == 0


@pytest.mark.parametrize(
    "address", ["ada", "a b@example.com", "ada@example.com>\r\nRCPT TO:<eve@x.org", "a@b, c@d", ""]
)
async def test_an_address_that_can_not_be_used_is_refused_before_a_word_is_said(email, inbox, address):
    assert await email.send(message(address=address)) == Refused("the address can't be used", provider="smtp")
    assert inbox.sessions == 0


async def test_an_email_of_a_template_without_a_subject_is_a_notification(email, inbox):
    await email.send(message(words={"subject": "\n"}))
    assert inbox.mails[0]["Subject"] == "Notification"


async def test_an_address_beyond_ascii_arrives(email, inbox):
    assert isinstance(await email.send(message(address="zoë@exämple.com")), Delivered)
    assert inbox.mails[0]["To"] == "zoë@exämple.com"


@pytest.fixture
def ascii_only(inbox):
    """The server takes no address beyond ASCII."""

    async def handle_EHLO(_server, session, _envelope, hostname, answers):  # noqa: N802
        inbox.sessions += 1
        session.host_name = hostname
        return [line for line in answers if "SMTPUTF8" not in line]

    inbox.handle_EHLO = handle_EHLO


@pytest.mark.usefixtures("ascii_only")
async def test_a_domain_beyond_ascii_goes_by_its_other_name(serve, opened, inbox):
    assert isinstance(await opened(await serve()).send(message(address="ada@bücher.example")), Delivered)
    assert inbox.recipients == ["ada@xn--bcher-kva.example"]
    assert inbox.mails[0]["To"] == "ada@xn--bcher-kva.example"


@pytest.mark.usefixtures("ascii_only")
async def test_an_address_that_the_server_can_not_carry_is_refused_and_costs_no_connection(serve, opened, inbox):
    email = opened(await serve())
    assert isinstance(await email.send(message(address="zoë@example.com")), Refused)
    assert isinstance(await email.send(message()), Delivered)
    assert inbox.sessions == 1


@pytest.mark.parametrize(
    "name", ["Ada", "Zoë ☕ " + "é" * 300, "=?utf-8?q?fake?=", "Ada\r\nBcc: eve@example.com", "\n.\nMAIL FROM:<x@y.z>"]
)
async def test_any_name_leaves_the_message_whole(email, inbox, name):
    outcome = await email.send(message(words={"subject": f"Thank you, {name}", "text": f"Hello {name}\n"}))
    mail = inbox.mails[0]
    assert mail["Bcc"] is None
    assert mail["Subject"] == outcome.subject
    assert mail.get_body(("plain",)).get_content().replace("\r\n", "\n") == f"Hello {name}\n".replace("\r\n", "\n")
    assert not mail.defects
    assert all(len(line) <= 78 for line in inbox.raw[0].splitlines())


# --- connections ---


async def test_many_emails_share_a_connection(email, inbox):
    for _ in range(5):
        await email.send(message())
    assert (len(inbox.mails), inbox.sessions) == (5, 1)


async def test_two_sends_use_two_connections(email, inbox):
    inbox.hold.clear()
    both = [asyncio.create_task(email.send(message())) for _ in range(2)]
    await asyncio.sleep(0.05)
    inbox.hold.set()
    await asyncio.gather(*both)
    assert inbox.sessions == 2


async def test_a_connection_that_was_idle_too_long_is_not_used_again(serve, opened, inbox):
    email = opened(await serve(), idle_seconds=0.0)
    for _ in range(2):
        assert isinstance(await email.send(message()), Delivered)
    assert inbox.sessions == 2


async def test_a_connection_carries_so_many_messages_and_no_more(serve, opened, inbox):
    email = opened(await serve(), messages_each=2)
    for _ in range(5):
        assert isinstance(await email.send(message()), Delivered)
    assert inbox.sessions == 3


async def test_a_lost_connection_is_made_again(opened, inbox, mail_server):
    email = opened(mail_server.port, host="127.0.0.1")
    await email.send(message())
    await mail_server.stop()
    assert await email.send(message()) == Postponed("smtp: SMTPConnectError", "smtp")
    await mail_server.start()
    assert isinstance(await email.send(message()), Delivered)
    assert inbox.sessions == 2


async def test_a_server_that_hangs_up_without_a_greeting_has_heard_nothing(opened):
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    port = free_port()
    async with await asyncio.start_server(hang_up, "localhost", port):
        assert await opened(port).send(message()) == Postponed("smtp: SMTPConnectError", "smtp")


@pytest.mark.parametrize("farewell", ["", "421 4.4.2 too long idle"])
async def test_a_server_that_leaves_between_messages_costs_a_fresh_connection(email, serve, inbox, farewell):
    await email.send(message())
    serve.farewells.append(farewell)
    assert isinstance(await email.send(message()), Delivered)
    assert (len(inbox.mails), inbox.sessions) == (2, 2)


async def test_a_server_that_leaves_a_fresh_connection_too_is_left_alone_for_a_while(email, serve, inbox):
    await email.send(message())
    serve.farewells += ["421 4.3.2 going down", "421 4.3.2 going down"]
    assert await email.send(message()) == Postponed("smtp 421 4.3.2", "smtp")
    assert inbox.sessions == 2


async def test_a_hang_up_during_a_message_is_tried_again_later_and_not_at_once(email, inbox):
    await email.send(message())
    inbox.data = ["hang up"]
    assert await email.send(message()) == Postponed("smtp: SMTPServerDisconnected", "smtp")
    assert inbox.sessions == 1
    assert isinstance(await email.send(message()), Delivered)


async def test_a_send_that_is_cancelled_leaves_no_connection_in_mid_sentence(email, inbox):
    inbox.hold.clear()
    sending = asyncio.create_task(email.send(message()))
    await asyncio.sleep(0.05)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    inbox.hold.set()
    assert isinstance(await email.send(message()), Delivered)
    assert inbox.sessions == 2


# --- what a server says ---


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("550 5.1.1 no such user ada@example.com", Refused("smtp 550 5.1.1", bounced=True, provider="smtp")),
        ("550 no such user ada@example.com", Refused("smtp 550", bounced=True, provider="smtp")),
        ("552 5.2.2 mailbox full", Refused("smtp 552 5.2.2", bounced=True, provider="smtp")),
        ("554 5.7.1 relay access denied", Refused("smtp 554 5.7.1", provider="smtp")),
        ("530 5.7.0 authentication required", Postponed("smtp 530 5.7.0", "smtp")),
        ("450 4.2.0 greylisted", Postponed("smtp 450 4.2.0", "smtp")),
        ("452 5.1.1.1 is no enhanced code", Postponed("smtp 452 5.1.1", "smtp")),
    ],
)
async def test_a_refused_recipient_is_final_only_with_a_5xx_and_costs_no_connection(email, inbox, answer, outcome):
    inbox.rcpt = [answer]
    assert await email.send(message()) == outcome
    assert isinstance(await email.send(message()), Delivered)
    assert inbox.sessions == 1


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("451 4.3.0 later", Postponed("smtp 451 4.3.0", "smtp")),
        ("421 closing", Postponed("smtp 421", "smtp")),
        ("554 spam", Refused("smtp 554", provider="smtp")),
        ("550 5.7.1 spam", Refused("smtp 550 5.7.1", provider="smtp")),
    ],
)
async def test_a_refused_message_is_final_only_with_a_5xx_and_is_no_bounce(email, inbox, answer, outcome):
    inbox.data = [answer]
    assert await email.send(message()) == outcome
    assert isinstance(await email.send(message()), Delivered)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("550 5.1.8 bad sender", Postponed("smtp 550 5.1.8", "smtp")),
        ("552 5.3.4 too large", Refused("smtp 552 5.3.4", provider="smtp")),
    ],
)
async def test_a_refused_sender_is_ours_to_mend_and_a_message_too_large_is_final(email, inbox, answer, outcome):
    async def handle_MAIL(*_: Any) -> str:  # noqa: N802
        return answer

    inbox.handle_MAIL = handle_MAIL
    assert await email.send(message()) == outcome
    assert inbox.mails == []


# --- TLS ---


class Doorkeeper:
    def __call__(self, _server, _session, _envelope, _mechanism, login) -> AuthResult:
        right = (login.login, login.password) == (b"brewline", b"hush")
        return AuthResult(success=right, handled=False)


async def secured(serve: Serve, authority: Authority, tls: str, **options: Any) -> int:
    if tls == "implicit":
        # This server believes itself in the clear, where it would not ask for a password, nor insist on one.
        return await serve(implicit=authority.server, **options | {"auth_require_tls": False, "auth_required": False})
    return await serve(tls_context=authority.server, require_starttls=True, **options)


TLS = pytest.mark.parametrize("tls", ["starttls", "implicit"])


@TLS
async def test_an_email_arrives_over_tls_and_its_connection_is_kept(serve, opened, authority, inbox, tls):
    email = opened(await secured(serve, authority, tls), tls=tls, ca_file=authority.file)
    for _ in range(3):
        assert isinstance(await email.send(message()), Delivered)
    assert len(inbox.mails) == 3
    assert inbox.sessions <= 2  # STARTTLS greets twice


@TLS
async def test_a_server_that_nobody_we_trust_vouches_for_hears_no_message(serve, opened, authority, tmp_path, tls):
    port = await secured(serve, authority, tls)
    for ca_file in (None, Authority(tmp_path).file):
        assert isinstance(await opened(port, tls=tls, ca_file=ca_file).send(message()), Postponed)
    assert serve.inbox.mails == []


@TLS
async def test_a_certificate_for_another_name_is_none(serve, opened, authority, inbox, tls):
    port = await secured(serve, authority, tls)
    email = opened(port, host="127.0.0.1", tls=tls, ca_file=authority.file)
    assert isinstance(await email.send(message()), Postponed)
    assert inbox.mails == []


async def test_a_server_without_starttls_hears_nothing_in_the_clear(serve, opened, authority, inbox):
    email = opened(await serve(), tls="starttls", ca_file=authority.file)
    assert await email.send(message()) == Postponed("smtp: SMTPException", "smtp")
    assert inbox.mails == []


@TLS
async def test_a_server_that_asks_for_a_password_lets_nobody_else_in(serve, opened, authority, tls):
    port = await secured(serve, authority, tls, authenticator=Doorkeeper(), auth_required=True)
    for password, let_in in (("wrong", False), ("", False), ("hush", True)):
        email = opened(port, tls=tls, ca_file=authority.file, username="brewline")
        email.unlock(password)
        outcome = await email.send(message())
        assert isinstance(outcome, Delivered) if let_in else outcome == Postponed("smtp 535 5.7.8", "smtp")
        assert len(serve.inbox.mails) == let_in


def test_a_password_is_never_sent_in_the_clear(opened):
    with pytest.raises(ValueError, match="without TLS"):
        opened(25, username="brewline")


async def test_a_server_that_greets_is_well_in_the_clear_and_over_tls(serve, authority):
    await greets("localhost", await serve())
    await greets("localhost", await serve(tls_context=authority.server), tls="starttls")
    await greets("localhost", await serve(implicit=authority.server), tls="implicit", ca_file=authority.file)
    with pytest.raises(ssl.SSLError):
        await greets("localhost", await serve(implicit=authority.server), tls="implicit")
