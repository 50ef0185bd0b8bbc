"""E-mail over SMTP, through a few long-lived connections.

At least once: killed between the server's 250 and the commit, the same message is sent again, under the same
Message-ID `<notificationId@brewline>`.
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from email.utils import formataddr, parseaddr

import aiosmtplib
from aiosmtplib import SMTP

from chassis.ids import now
from chassis.telemetry import traceparent
from notification.channels.mime import compose
from notification.domain import Delivered, Notification, Outcome, Postponed, Refused
from notification.rendering import NotRenderable, Rendered, Templates

_COMMAND_SECONDS = 10.0
# An address that can stand in an SMTP command and a header as it is: no quoting, no brackets, no controls.
_SENDABLE = re.compile(r"[^\s\x00-\x20\x7f<>()\[\]\\,;:\"@]+@[^\s\x00-\x20\x7f<>()\\,;:\"@]+")


class Email:
    """`connections` is how many sends may run at once; each holds one connection while it runs."""

    def __init__(self, *, host: str, port: int, sender: str, connections: int, templates: Templates) -> None:
        name, self._envelope_from = parseaddr(sender)
        self._from = formataddr((name, self._envelope_from))
        self._host = host
        self._port = port
        self._templates = templates
        self._idle: list[SMTP] = []
        self.concurrency = connections

    async def send(self, notification: Notification) -> Outcome:
        if not _SENDABLE.fullmatch(notification.address):
            return Refused("the address can't be used")
        try:
            rendered = self._templates.render(notification.template, notification.context)
        except NotRenderable as error:
            return Refused(str(error))
        return await self._transmit(notification.address, self._message(notification, rendered), rendered.subject)

    def _message(self, notification: Notification, rendered: Rendered) -> bytes:
        return compose(
            sender=self._from,
            to=notification.address,
            subject=rendered.subject,
            text=rendered.text,
            html=rendered.html,
            message_id=notification.id,
            at=now(),
            # By these an order, and its trace, can be followed to the inbox.
            extra={"X-Brewline-Order": notification.order_id, "traceparent": traceparent() or notification.traceparent},
        )

    async def _transmit(self, to: str, message: bytes, subject: str) -> Outcome:
        try:
            async with self._connection() as smtp:
                try:
                    options = [] if to.isascii() else ["smtputf8"]
                    await smtp.sendmail(self._envelope_from, to, message, mail_options=options)
                except aiosmtplib.SMTPException as error:
                    if isinstance(outcome := _failed(error), Refused):
                        return outcome  # a complete answer: the connection is as good as before
                    raise
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            return _failed(error)
        return Delivered(subject)

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[SMTP]:
        """One that is kept for the next send, unless this one was left in the middle of a sentence."""
        smtp = await self._connected()
        try:
            yield smtp
        except BaseException:
            smtp.close()
            raise
        self._idle.append(smtp)

    async def _connected(self) -> SMTP:
        """The connection used last, which is the least likely to have been closed for idleness; else a new one."""
        while self._idle:
            smtp = self._idle.pop()
            if smtp.is_connected:
                return smtp
        # Its own name in the greeting: the library's default asks DNS for this machine's.
        name = self._envelope_from.rpartition("@")[2]
        smtp = SMTP(hostname=self._host, port=self._port, local_hostname=name, timeout=_COMMAND_SECONDS)
        await smtp.connect()
        return smtp

    async def close(self) -> None:
        for smtp in self._idle:
            smtp.close()
        self._idle.clear()


def _failed(error: Exception) -> Outcome:
    """A 5xx for the recipient or the message is final; one for us as a sender is ours to mend, so it is tried again."""
    match error:
        case aiosmtplib.SMTPRecipientsRefused():
            return _by_code(error.recipients[0].code)
        case aiosmtplib.SMTPDataError():
            return _by_code(error.code)
        case aiosmtplib.SMTPNotSupported():
            return Refused("smtp: the server can't carry this address")
        case aiosmtplib.SMTPResponseException():
            return Postponed(f"smtp {error.code}")
        case _:
            return Postponed(f"smtp: {type(error).__name__}")


def _by_code(code: int) -> Outcome:
    return Refused(f"smtp {code}") if code >= 500 else Postponed(f"smtp {code}")


async def greets(host: str, port: int) -> None:
    """Raises unless a mail server answers there."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        if not (await reader.readline()).startswith(b"220"):
            raise ConnectionError("no SMTP greeting")
    finally:
        writer.close()
