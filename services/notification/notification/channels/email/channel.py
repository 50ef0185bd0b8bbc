"""E-mail over SMTP, through a few long-lived connections.

At least once: killed between the server's 250 and the commit, the same message is sent again, under the same
Message-ID `<notificationId@brewline>`.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formataddr, parseaddr
from pathlib import Path
from typing import Literal

import aiosmtplib
import structlog
from aiosmtplib import SMTP

from chassis.addresses import by_smtp
from chassis.ids import now
from chassis.telemetry import traceparent
from notification.channels.email.mime import compose
from notification.domain import Message
from notification.outcomes import Delivered, Outcome, Postponed, Refused
from notification.templates.render import one_line

log = structlog.get_logger()

Tls = Literal["off", "starttls", "implicit"]

_NAME = "smtp"
_WITHOUT_SUBJECT = "Notification"  # of a template that has none
_COMMAND_SECONDS = 10.0
# Servers close what is idle, some of them after a minute, and want no connection for ever.
_IDLE_SECONDS = 30.0
_MESSAGES_EACH = 100
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\b", re.ASCII)  # RFC 3463
_NOT_LET_IN = frozenset({530, 534, 535, 538})  # RFC 4954


@dataclass(slots=True)
class _Line:
    """A connection: how many messages it has carried, and since when (the loop's time) it has been idle."""

    smtp: SMTP
    carried: int = 0
    idle_since: float = 0.0


class Email:
    """`connections` is how many sends may run at once; each holds one connection while it runs.

    With `tls` "starttls" or "implicit" the server shows a certificate for `host`, from an authority of the system's or
    from `ca_file`. A server that asks for a `username` gets its password by `unlock`, before the first send.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        sender: str,
        connections: int,
        tls: Tls = "off",
        ca_file: Path | None = None,
        username: str = "",
        idle_seconds: float = _IDLE_SECONDS,
        messages_each: int = _MESSAGES_EACH,
    ) -> None:
        if username and tls == "off":
            raise ValueError("a password is not sent without TLS")
        name, self._envelope_from = parseaddr(sender)
        self._from = formataddr((name, self._envelope_from))
        self._host = host
        self._port = port
        self._tls = tls
        self._trust = _trust(tls, ca_file)
        self._username = username
        self._password = ""
        self._idle_seconds = idle_seconds
        self._messages_each = messages_each
        self._idle: list[_Line] = []
        self.concurrency = connections

    def unlock(self, password: str) -> None:
        self._password = password

    async def send(self, message: Message) -> Outcome:
        if (to := by_smtp(message.address)) is None:
            return Refused("the address can't be used", provider=_NAME)
        if not (message.rendered.text or message.rendered.html):
            return Refused(f"template {message.template} has no body for email", provider=_NAME)
        subject = one_line(message.rendered.subject) or _WITHOUT_SUBJECT
        try:
            await self._transmit(to, self._composed(message, to, subject))
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            return _failed(error)
        content = message.rendered.text or message.rendered.html
        return Delivered(subject=subject, content=content, provider=_NAME, message_id=f"<{message.id}@brewline>")

    def _composed(self, message: Message, to: str, subject: str) -> bytes:
        return compose(
            sender=self._from,
            to=to,
            subject=subject,
            text=message.rendered.text,
            html=message.rendered.html,
            message_id=message.id,
            at=now(),
            # By the first two an order, and its trace, can be followed to the inbox.
            extra={
                "X-Brewline-Order": message.subject_id,
                "traceparent": traceparent() or message.traceparent,
                **message.headers,
            },
        )

    async def _transmit(self, to: str, content: bytes) -> None:
        line = await self._addressed(to, len(content))
        async with self._in_use(line):
            await line.smtp.data(content)
        line.carried += 1
        self._keep(line)

    async def _addressed(self, to: str, size: int) -> _Line:
        """A connection whose server waits for the content. One that was idle may be gone by now; nothing has been sent
        then, so a fresh one is asked at once."""
        if (line := self._kept()) is not None:
            try:
                await self._address(line, to, size)
            except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPResponseException):
                if line.smtp.is_connected:
                    raise
            else:
                return line
        line = _Line(await self._connected())
        await self._address(line, to, size)
        return line

    async def _address(self, line: _Line, to: str, size: int) -> None:
        smtp = line.smtp
        options = [f"size={size}"] if smtp.supports_extension("size") else []
        encoding = "ascii"
        if not to.isascii():
            if not smtp.supports_extension("smtputf8"):
                self._keep(line)
                raise aiosmtplib.SMTPNotSupported("smtputf8")
            options.append("smtputf8")
            encoding = "utf-8"
        async with self._in_use(line):
            await smtp.mail(self._envelope_from, options=options, encoding=encoding)
            await smtp.rcpt(to, encoding=encoding)

    # --- connections ---

    @asynccontextmanager
    async def _in_use(self, line: _Line) -> AsyncGenerator[None]:
        """A complete refusal leaves a connection as good as before; anything else leaves it in mid-sentence."""
        try:
            yield
        except aiosmtplib.SMTPResponseException:
            await self._reset(line)
            raise
        except BaseException:
            line.smtp.close()
            raise

    async def _reset(self, line: _Line) -> None:
        try:
            await line.smtp.rset()
        except (aiosmtplib.SMTPException, OSError):
            line.smtp.close()
        except BaseException:
            line.smtp.close()
            raise
        else:
            self._keep(line)

    def _keep(self, line: _Line) -> None:
        if line.carried >= self._messages_each:
            line.smtp.close()
            return
        line.idle_since = asyncio.get_running_loop().time()
        self._idle.append(line)

    def _kept(self) -> _Line | None:
        """The connection used last, which is the least likely to have been closed for idleness."""
        at = asyncio.get_running_loop().time()
        while self._idle:
            line = self._idle.pop()
            if line.smtp.is_connected and at - line.idle_since <= self._idle_seconds:
                return line
            line.smtp.close()
        return None

    async def _connected(self) -> SMTP:
        smtp = SMTP(
            hostname=self._host,
            port=self._port,
            # Its own name in the greeting: the library's default asks DNS for this machine's.
            local_hostname=self._envelope_from.rpartition("@")[2],
            timeout=_COMMAND_SECONDS,
            use_tls=self._tls == "implicit",
            start_tls=self._tls == "starttls",
            tls_context=self._trust,
        )
        try:
            await smtp.connect()
            if self._username:
                await smtp.login(self._username, self._password)
            elif smtp.is_ehlo_or_helo_needed:
                await smtp.ehlo()
        except aiosmtplib.SMTPAuthenticationError as error:
            smtp.close()
            log.error("email.account_error", reason=_codes(error))  # noqa: TRY400  ours to mend; its text is not ours
            raise
        except BaseException:
            smtp.close()
            raise
        return smtp

    async def close(self) -> None:
        for line in self._idle:
            line.smtp.close()
        self._idle.clear()


def _trust(tls: Tls, ca_file: Path | None) -> ssl.SSLContext | None:
    return None if tls == "off" else ssl.create_default_context(cafile=ca_file)


def _failed(error: Exception) -> Outcome:
    """A 5xx for the recipient or the message is final; one for us as a sender is ours to mend, so it is tried again."""
    match error:
        case aiosmtplib.SMTPNotSupported():
            return Refused("smtp: the server can't carry this address", provider=_NAME)
        case aiosmtplib.SMTPRecipientRefused() | aiosmtplib.SMTPDataError() if _final(error.code):
            return Refused(_codes(error), bounced=_bounced(error), provider=_NAME)
        case aiosmtplib.SMTPSenderRefused(code=552):  # RFC 1870: the message is too large
            return Refused(_codes(error), provider=_NAME)
        case aiosmtplib.SMTPResponseException():
            return Postponed(_codes(error), provider=_NAME)
        case _:
            return Postponed(f"smtp: {type(error).__name__}", provider=_NAME)


def _final(code: int) -> bool:
    return code >= 500 and code not in _NOT_LET_IN


def _bounced(error: aiosmtplib.SMTPResponseException) -> bool:
    """By RFC 3463 x.7.x is the server's policy about us or the message, not a word about the mailbox."""
    return isinstance(error, aiosmtplib.SMTPRecipientRefused) and _enhanced(error)[1:4] != ".7."


def _codes(error: aiosmtplib.SMTPResponseException) -> str:
    """The codes alone: a server's text often holds the address."""
    return f"smtp {error.code} {_enhanced(error)}".rstrip()


def _enhanced(error: aiosmtplib.SMTPResponseException) -> str:
    found = _ENHANCED.match(error.message)
    return found[0] if found else ""


async def greets(host: str, port: int, *, tls: Tls = "off", ca_file: Path | None = None) -> None:
    """Raises unless a mail server answers there."""
    context = _trust(tls, ca_file) if tls == "implicit" else None
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        if not (await reader.readline()).startswith(b"220"):
            raise ConnectionError("no SMTP greeting")
    finally:
        writer.close()
