"""A notification: what it is, how it moves, and when it is tried again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from chassis.schedule import GIVE_UP, recheck_delay

DEFAULT_TENANT = "default"

# A row is this process's to send for so long. One send takes less than SEND_WITHIN, so with that much of its lease
# left a row can be sent before anybody else may take it.
LEASE = timedelta(seconds=30)
SEND_WITHIN = timedelta(seconds=20)


class UnknownNotification(Exception):
    def __init__(self, notification_id: str) -> None:
        super().__init__(f"No notification {notification_id}")


class NotificationOfOtherTenant(Exception):
    def __init__(self) -> None:
        super().__init__("Notification belongs to different tenant")


class NotYourNotification(Exception):
    def __init__(self) -> None:
        super().__init__("It tells of somebody else's order; the role staff is missing.")


class UnknownDeadLetter(Exception):
    def __init__(self, letter_id: str) -> None:
        super().__init__(f"No dead letter {letter_id}")


class DeadLetterOfOtherTenant(Exception):
    def __init__(self) -> None:
        super().__init__("Dead letter belongs to different tenant")


class NotReplayable(Exception):
    """What was kept is no event that could be published."""

    def __init__(self, letter_id: str) -> None:
        super().__init__(f"Dead letter {letter_id} is no event that could be published")


class ChannelName(StrEnum):
    EMAIL = "email"
    PUSH = "push"


# A push shows the order's present status: one that waited while the order moved on would take it back. An e-mail
# tells what happened then, and stays true.
LATEST_ONLY = frozenset({ChannelName.PUSH})


class Status(StrEnum):
    """`queued` waits for its time, `sending` is leased by a process; the rest are final."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    SUPERSEDED = "superseded"


MOVES: Mapping[Status, frozenset[Status]] = {
    # To `sent` too: the attempt of a process whose lease ran out may succeed after another one has put it back.
    Status.QUEUED: frozenset({Status.SENDING, Status.SENT, Status.SUPERSEDED}),
    Status.SENDING: frozenset({Status.QUEUED, Status.SENT, Status.FAILED, Status.SUPERSEDED}),
    Status.SENT: frozenset(),
    Status.FAILED: frozenset(),
    Status.SUPERSEDED: frozenset(),
}


def before(target: Status) -> list[Status]:
    """From where `target` may be reached: the condition of the update that moves there."""
    return [status for status, targets in MOVES.items() if target in targets]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One message to one recipient by one channel. `version` is the order's when the event was told.

    `owner` is the subject who may see it, besides staff. `lease_until` is None while nobody is sending it.
    """

    id: str
    tenant: str
    owner: str
    event_id: str
    order_id: str
    version: int
    recipient_id: str
    address: str
    channel: ChannelName
    template: str
    context: Mapping[str, Any]
    traceparent: str
    created_at: datetime
    attempts: int = 0
    lease_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """The provider took it. `subject` as it was sent, None where a channel has none."""

    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """This message to this recipient will never be taken. `error` is short and free of personal data."""

    error: str


@dataclass(frozen=True, slots=True)
class Postponed:
    """Not taken, or nobody knows; to be tried again. `error` as in Refused."""

    error: str


Outcome = Delivered | Refused | Postponed


def retry_at(*, attempts: int, created_at: datetime, at: datetime) -> datetime | None:
    """When to try again after attempt number `attempts` (from 1) ended at `at`; None once a day has passed."""
    if at - created_at >= GIVE_UP:
        return None
    return at + recheck_delay(attempts - 1)


def status_after(outcome: Outcome, *, retry: datetime | None) -> Status:
    match outcome:
        case Delivered():
            return Status.SENT
        case Postponed() if retry is not None:
            return Status.QUEUED
        case Postponed() | Refused():
            return Status.FAILED
