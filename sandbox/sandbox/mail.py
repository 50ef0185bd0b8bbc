"""The mail server: an SMTP listener and the inbox behind it."""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from itertools import islice
from typing import Any, TypedDict

from aiosmtpd.smtp import DATA_SIZE_DEFAULT, SMTP, Envelope, Session

from sandbox.connection import arm_reset
from sandbox.faults import Faults
from sandbox.postmaster import Postmaster
from sandbox.records import Journal, Span, stamp, utc_now

_PARSER = BytesParser(_class=EmailMessage, policy=policy.default)
_PLAIN_ADDRESS = re.compile(r"<([\w.+-]+@[\w.-]+)>(.*)", re.ASCII)

# As the contract shows it; `to` is where it was delivered, several addresses joined by commas.
Mail = TypedDict(
    "Mail", {"to": str, "from": str, "subject": str, "text": str, "html": str | None, "messageId": str, "at": str}
)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is held in memory of a mail; the rest is read, and parsed, when somebody looks."""

    recipients: tuple[str, ...]
    span: Span


class Inbox:
    """Every mail that was accepted, a second copy of the same Message-ID included."""

    def __init__(self, *, journal: Journal, clock: Callable[[], datetime] = utc_now) -> None:
        self._journal = journal
        self._clock = clock
        self._kept = [_Kept(tuple(json.loads(line)["to"]), span) for span, line in journal.replay()]

    def __len__(self) -> int:
        return len(self._kept)

    def store(self, *, sender: str, recipients: list[str], content: bytes) -> None:
        """Keeps one mail as it came over the wire."""
        at = stamp(self._clock())
        # Latin-1 carries any byte through JSON and back.
        line = json.dumps({"at": at, "from": sender, "to": recipients, "content": content.decode("latin-1")})
        self._kept.append(_Kept(tuple(recipients), self._journal.append(line.encode())))

    def newest(self, *, to: str | None = None, limit: int | None = None) -> list[Mail]:
        """The mails, newest first, those for one address only if `to` is given. Slow: not for the event loop."""
        kept = [*reversed(self._kept)]
        wanted = (mail for mail in kept if to is None or _is_for(mail, to))
        lines = (self._journal.read(mail.span) for mail in islice(wanted, limit))
        # A short line was forgotten while we read.
        return [_opened(line) for line in lines if line.endswith(b"}")]

    def forget(self) -> None:
        """Empties the inbox."""
        self._journal.forget()
        self._kept.clear()


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
        self._inbox.store(sender=envelope.mail_from or "", recipients=envelope.rcpt_tos, content=content)
        self._postmaster.report(envelope.rcpt_tos, content)
        return "250 OK"


async def _leave(server: SMTP) -> str:
    """Closes the session after what was said; its task is cancelled here as soon as the connection is gone."""
    if server.transport:
        server.transport.close()
    return await asyncio.get_running_loop().create_future()


def _is_for(mail: _Kept, address: str) -> bool:
    return address.casefold() in (recipient.casefold() for recipient in mail.recipients)


def _opened(line: bytes) -> Mail:
    record: dict[str, Any] = json.loads(line)
    message = _PARSER.parsebytes(record["content"].encode("latin-1"))
    return {
        "to": ", ".join(record["to"]),
        "from": _header(message, "From") or record["from"],
        "subject": _header(message, "Subject"),
        "text": _body(message, "plain") or "",
        "html": _body(message, "html"),
        "messageId": _header(message, "Message-ID"),
        "at": record["at"],
    }


def _header(message: EmailMessage, name: str) -> str:
    try:
        return str(message.get(name, "")).strip()
    except (ValueError, LookupError, AttributeError, TypeError):
        # The standard library stumbles over some malformed headers; one such mail must not hide all others.
        return ""


def _body(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body(preferencelist=(kind,))
    if part is None:
        return None
    try:
        # Lines end with CRLF on the wire only.
        return str(part.get_content()).replace("\r\n", "\n")
    except (LookupError, ValueError):
        # An unknown charset or encoding: show what can be shown.
        payload = part.get_payload(decode=True)
        return payload.decode("latin-1") if isinstance(payload, bytes) else ""
