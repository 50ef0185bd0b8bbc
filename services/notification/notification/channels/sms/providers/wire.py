"""A text message, what a provider may say to it, and what every answer through the sidecar means before its body is
read.

At least once: the sidecar's declared retries and our own repeat a request whose end nobody knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol

from chassis.problems import Unavailable as NobodyAnswers
from chassis.sidecar import Answer, Sidecar, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One text message. `id` is the notification's, `to` is E.164, `sender` is registered with the provider ("" is the
    account's default)."""

    id: str
    to: str
    body: str
    sender: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the provider charged. `currency` is "" where it names none, as with a price of 0."""

    currency: str
    amount: Decimal

    def __str__(self) -> str:
        return f"{self.currency} {self.amount}".strip()


# --- results; each `reason` begins with the provider's code and is free of personal data ---
@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    message_id: str
    cost: Cost | None = None
    segments: int = 0


@dataclass(frozen=True, slots=True)
class Rejected:
    """Never, to this number. `bounced` says that no text message can reach it, from anybody."""

    reason: str
    bounced: bool = False


@dataclass(frozen=True, slots=True)
class AccountError:
    """Not taken until somebody mends our account or settings with this provider."""

    reason: str


@dataclass(frozen=True, slots=True)
class OnHold:
    """Held back by the provider's own judgement of risk."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotTaken:
    """A definite no that may pass."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have been taken."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The breaker is open: nobody was asked."""

    reason: str = "unavailable"


NotAccepted = Rejected | AccountError | OnHold | NotTaken | Unknown | Unavailable
SmsResult = Accepted | NotAccepted


class SmsStatus(StrEnum):
    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    UNKNOWN = "unknown"


# --- a provider ---
class SmsProvider(Protocol):
    """`unlock` brings its key, before the first send. Every expected ending is a value. Only of one that is `askable`
    does `status` tell anything."""

    @property
    def name(self) -> str: ...

    @property
    def askable(self) -> bool: ...

    def unlock(self, key: str) -> None: ...

    async def send(self, text: Text) -> SmsResult: ...

    async def send_bulk(self, texts: Sequence[Text]) -> list[SmsResult]: ...

    async def status(self, message_id: str) -> SmsStatus: ...


# --- through the sidecar ---
_NOT_BEGUN = frozenset({429, 503})  # RFC 9110 15.6.4, RFC 6585 4: refused before any work


async def ask(
    sidecar: Sidecar,
    endpoint: str,
    path: str,
    *,
    headers: Mapping[str, str],
    body: Any = None,
    form: Mapping[str, str] | None = None,
) -> Answer | Unknown | Unavailable:
    """Post once, the declared retries included: an answer of the provider's own, whatever its status, or why none."""
    try:
        answer = await sidecar.invoke(endpoint, path, body, form=form, headers=headers, private=True)
    except NobodyAnswers:
        return Unknown("no answer")
    if answer.verdict is Verdict.NOT_SENT:
        return Unavailable()
    return Unknown("the sidecar got no answer") if answer.from_sidecar else answer


def without_words(answer: Answer) -> NotAccepted:
    """What an answer of the provider's says by its status alone, when its body can't be read."""
    reason = f"http {answer.status}"
    if answer.status in _NOT_BEGUN:
        return NotTaken(reason)
    match answer.verdict:
        case Verdict.ANSWERED:
            return Unknown("unreadable answer")
        case Verdict.REFUSED:  # a wrong key, or a request that this provider doesn't understand: ours to mend
            return AccountError(reason)
        case _:
            return Unknown(reason)
