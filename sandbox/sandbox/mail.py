"""The mail server: an SMTP listener and the inbox behind it."""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from email import policy
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesParser
from typing import Any, TypedDict, cast

from aiosmtpd.smtp import DATA_SIZE_DEFAULT, SMTP, Envelope, Session

from sandbox.connection import arm_reset
from sandbox.faults import Faults
from sandbox.lists import Listed
from sandbox.postmaster import Postmaster
from sandbox.records import Journal, stamp, utc_now

# The lenient policy: the default one takes ten times as long, and stumbles over crooked headers.
_PARSER = BytesParser(policy=policy.compat32)
_PLAIN_ADDRESS = re.compile(r"<([\w.+-]+@[\w.-]+)>(.*)", re.ASCII)

# As the contract shows it; `to` is where it was delivered, several addresses joined by commas.
Mail = TypedDict(
    "Mail", {"to": str, "from": str, "subject": str, "text": str, "html": str | None, "messageId": str, "at": str}
)


# Of mails a page is shorter: 2000 with their HTML are some megabytes.
_PAGE = 2_000


class Inbox:
    """Every mail that was accepted, a second copy of the same Message-ID included; `listed` is by recipient."""

    def __init__(self, *, journal: Journal, clock: Callable[[], datetime] = utc_now) -> None:
        self._journal = journal
        self._clock = clock
        self.listed = Listed(longest=_PAGE)
        for line in journal.replay():
            self._enter(json.loads(line))

    def store(self, *, sender: str, recipients: list[str], content: bytes) -> Mail:
        """Keeps one mail as it came over the wire."""
        at = stamp(self._clock())
        # Latin-1 carries any byte through JSON and back.
        record = {"at": at, "from": sender, "to": recipients, "content": content.decode("latin-1")}
        self._journal.append(json.dumps(record).encode())
        return self._enter(record)

    def forget(self) -> None:
        """Empties the inbox."""
        self._journal.forget()
        self.listed.forget()

    def _enter(self, record: dict[str, Any]) -> Mail:
        mail = _opened(record)
        self.listed.add(mail, *record["to"])
        return mail


class MailServer:
    """Receives by SMTP into the inbox, on the loop that also serves HTTP."""

    def __init__(self, *, inbox: Inbox, postmaster: Postmaster, faults: Faults, host: str, port: int) -> None:
        self._desk = _Desk(inbox, postmaster, faults)
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.BaseTransport] = set()

    async def start(self) -> None:
        """Listens; raises OSError when the port is taken."""
        self._server = await asyncio.get_running_loop().create_server(self._session, self._host, self._port)

    def stop(self) -> None:
        """Stops listening and leaves every open session in the middle of its sentence, as a dying server does."""
        if self._server:
            self._server.close()
        for transport in [*self._sessions]:
            transport.close()

    def _session(self) -> SMTP:
        return _SmtpSession(self._desk, self._sessions)


class _SmtpSession(SMTP):
    """aiosmtpd's session, known to the server while it is open, and quicker on the two calls every mail makes.

    Line by line and with a full address parser a mail took 660 us of processor time; this way, 380.
    """

    line_length_limit = DATA_SIZE_DEFAULT

    def __init__(self, desk: "_Desk", sessions: set[asyncio.BaseTransport]) -> None:
        # A name of our own: the default looks the machine's up in DNS for every connection.
        super().__init__(desk, hostname="sandbox", enable_SMTPUTF8=True, loop=asyncio.get_running_loop())
        self._sessions = sessions

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sessions.add(transport)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport:
            self._sessions.discard(self.transport)
        super().connection_lost(error)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802  # aiosmtpd calls it by this name
        """Reads the message in one piece."""
        if arg or not self.envelope or not self.envelope.rcpt_tos:
            # Refused there.
            await super().smtp_DATA(arg)
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        content = bytearray(b"\r\n")
        while not content.endswith(b"\r\n.\r\n"):
            content += await self._reader.readuntil(b".\r\n")
        self.envelope.original_content = bytes(content[:-3].replace(b"\r\n.", b"\r\n")[2:])
        await self.push(await self._call_handler_hook("DATA"))
        self._set_post_data_state()

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        plain = _PLAIN_ADDRESS.match(arg)
        return (plain[1], plain[2]) if plain else super()._getaddr(arg)


class _Desk:
    """Where a recipient is let in, and a message, once it is complete, is accepted or meets the fault of the hour."""

    def __init__(self, inbox: Inbox, postmaster: Postmaster, faults: Faults) -> None:
        self._inbox = inbox
        self._postmaster = postmaster
        self._faults = faults

    async def handle_RCPT(  # noqa: N802  # aiosmtpd calls it by this name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """The reply to a recipient."""
        refused = self._postmaster.refusal(address)
        if refused is None:
            envelope.rcpt_tos.append(address)
            envelope.rcpt_options.extend(options)
        return refused or "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  # the same
        """The reply to a message."""
        fault = self._faults.strike("smtp")
        if fault is None:
            return self._store(envelope)
        if not await self._faults.pause(fault.delay):
            return await _leave(server)
        match fault.mode:
            case "ok":
                return self._store(envelope)
            case "error":
                return f"{fault.status or 451} The server failed"
            case "throttle":
                await server.push(f"{fault.status or 421} Too many messages, closing")
            case "lost-reply":
                self._store(envelope)
            case "reset" if server.transport:
                arm_reset(server.transport)
            case _:
                pass
        return await _leave(server)

    def _store(self, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        mail = self._inbox.store(sender=envelope.mail_from or "", recipients=envelope.rcpt_tos, content=content)
        self._postmaster.report(envelope.rcpt_tos, mail["messageId"])
        return "250 OK"


async def _leave(server: SMTP) -> str:
    """Closes the session after what was said; its task is cancelled here as soon as the connection is gone."""
    if server.transport:
        server.transport.close()
    return await asyncio.get_running_loop().create_future()


def _opened(record: Mapping[str, Any]) -> Mail:
    message = _PARSER.parsebytes(record["content"].encode("latin-1"))
    headers = {name.lower(): _decoded(value) for name, value in message.raw_items()}
    bodies: dict[str, str] = {}
    for part in message.walk():
        if not part.is_multipart() and part.get_content_disposition() != "attachment":
            bodies.setdefault(part.get_content_type(), _body(part))
    return {
        "to": ", ".join(record["to"]),
        "from": headers.get("from") or record["from"],
        "subject": headers.get("subject", ""),
        "text": bodies.get("text/plain", ""),
        "html": bodies.get("text/html"),
        "messageId": headers.get("message-id", ""),
        "at": record["at"],
    }


def _decoded(raw: str) -> str:
    """A header as it is read. What can't be decoded is shown as it came: one such mail must not hide all others."""
    text = "".join(raw.splitlines()).strip().encode("ascii", "surrogateescape").decode(errors="replace")
    if "=?" not in text:
        return text
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):
        return text


def _body(part: Message) -> str:
    payload = cast("bytes", part.get_payload(decode=True))
    try:
        text = payload.decode(part.get_content_charset("utf-8"), errors="replace")
    except LookupError:  # an unknown charset: what can be shown
        text = payload.decode("latin-1")
    return text.replace("\r\n", "\n")  # lines end with CRLF on the wire only
