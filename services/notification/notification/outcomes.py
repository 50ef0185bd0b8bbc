"""How an attempt to send ends, what a receipt says of it later, and when it is tried again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from chassis.retry_delays import GIVE_UP, recheck_delay
from notification.domain import Notification, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The provider took it, with `subject` and `content` as its words. `message_id` is the provider's own name for it,
    by which receipts are matched; `askable` says that the provider tells by it what became of the message."""

    subject: str | None = None
    content: str = ""
    provider: str = ""
    message_id: str = ""
    segments: int = 0
    cost: str = ""
    askable: bool = False

    def without(self, tokens: Sequence[str]) -> "Delivered":
        """As it is kept."""
        subject, content = self.subject or "", self.content
        for token in tokens:
            subject, content = subject.replace(token, "…"), content.replace(token, "…")
        return replace(self, subject=subject or None, content=content)


@dataclass(frozen=True, slots=True)
class Refused:
    """This message to this address will never be taken. `error` is short and free of personal data."""

    error: str
    bounced: bool = False
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Postponed:
    """Not taken, or nobody knows; to be tried again. `error` as in Refused. `provider` may have it."""

    error: str
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Down:
    """Nobody took it, and that is certain: the next channel of the chain at once, or later."""

    error: str
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Not to be sent at all."""

    reason: str


Outcome = Delivered | Refused | Postponed | Down | Suppressed


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """One attempt, ended at `at`."""

    notification: Notification
    outcome: Outcome
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The last word on a message: `delivered`, `bounced` or `failed`. `message_id` is the provider's name for it, by
    SMTP the notification's id. `error` is short and free of personal data."""

    provider: str
    message_id: str
    status: Status
    error: str = ""


def retry_at(*, attempts: int, began: datetime, at: datetime) -> datetime | None:
    """When to try again after attempt number `attempts` (from 1) ended at `at`; None a day after they began."""
    if at - began >= GIVE_UP:
        return None
    return at + recheck_delay(attempts - 1)


def status_after(outcome: Outcome, *, retry: datetime | None) -> Status:
    match outcome:
        case Delivered():
            return Status.SENT
        case Suppressed():
            return Status.SUPPRESSED
        case Postponed() | Down() if retry is not None:
            return Status.QUEUED
        case Refused(bounced=True):
            return Status.BOUNCED
        case Postponed() | Down() | Refused():
            return Status.FAILED
