"""A notification: what it is, and how it moves."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator

DEFAULT_TENANT = "default"
DIGEST = "digest"  # the `link` of a message that carries others

# Of the lease of a row, beyond the time of a send: to write down how it ended, and to wait for its turn before.
WRITE_DOWN = timedelta(seconds=3)
WAIT = timedelta(seconds=2)


# --- refusals ---
class NotFound(Exception):
    """`noun` names what there is none of; the problem's type is `<noun>-not-found`."""

    noun = "thing"

    def __init__(self, key: str) -> None:
        super().__init__(f"No {self.noun.replace('-', ' ')} {key}")


class UnknownNotification(NotFound):
    noun = "notification"


class UnknownDeadLetter(NotFound):
    noun = "dead-letter"


class UnknownTemplate(NotFound):
    noun = "template"


class UnknownRecipient(NotFound):
    noun = "recipient"


class UnknownSaga(NotFound):
    noun = "saga"


class SagaNotFailed(Exception):
    def __init__(self, status: str) -> None:
        super().__init__("Only a saga of which a step failed can be tried again.")
        self.members: dict[str, Any] = {"current": status}


class UnknownBulk(NotFound):
    noun = "bulk"


class OtherTenant(Exception):
    """`noun` belongs to different tenant: seed 002's words."""

    def __init__(self, noun: str) -> None:
        super().__init__(f"{noun} belongs to different tenant")


class NotYours(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; the role staff is missing.")


class NotReplayable(Exception):
    """A dead letter that its app can't process, now as before."""


class DeadLetterClosed(Exception):
    """`status` says how it ended."""

    def __init__(self, status: str) -> None:
        super().__init__(f"It is {status}, and waits for nobody any more.")
        self.members: dict[str, Any] = {"current": status}


class ResetGone(Exception):
    def __init__(self) -> None:
        super().__init__("The link is used up, revoked or too old. Ask for a new one.")


class IdempotencyMismatch(Exception):
    def __init__(self) -> None:
        super().__init__("The key was used for another body.")


class ConcurrencyConflict(Exception):
    """Somebody else has changed it since `version` was read; `current` is the version now."""

    def __init__(self, current: int) -> None:
        super().__init__(f"It has changed meanwhile: its version is {current} now.")
        self.members = {"currentVersion": current}  # of the problem document


# --- the life cycle ---
class ChannelName(StrEnum):
    EMAIL = "email"
    SMS = "sms"
    PUSH = "push"
    LIVE = "live"


# The parts of a template that a channel can say; one of them is enough.
PARTS: Mapping[ChannelName, tuple[str, ...]] = {
    ChannelName.EMAIL: ("subject", "text", "html"),
    ChannelName.SMS: ("sms",),
    ChannelName.PUSH: ("push",),
    ChannelName.LIVE: ("push",),
}


class Status(StrEnum):
    """`queued` waits for its time, `sending` is leased by a process, `sent` was taken by a provider; the rest are
    final. `delivered` and `bounced` are a receipt's word."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    FAILED = "failed"
    SUPPRESSED = "suppressed"


MOVES: Mapping[Status, frozenset[Status]] = {
    # To `sent` too: the attempt of a process whose lease ran out may succeed after another one has put it back. And a
    # digest's messages wait here, to end as the one that carries them.
    Status.QUEUED: frozenset({Status.SENDING, Status.SENT, Status.BOUNCED, Status.FAILED, Status.SUPPRESSED}),
    Status.SENDING: frozenset({Status.QUEUED, Status.SENT, Status.BOUNCED, Status.FAILED, Status.SUPPRESSED}),
    Status.SENT: frozenset({Status.DELIVERED, Status.BOUNCED, Status.FAILED}),
    Status.DELIVERED: frozenset(),
    Status.BOUNCED: frozenset(),
    Status.FAILED: frozenset(),
    Status.SUPPRESSED: frozenset(),
}

FINAL = frozenset(status for status, targets in MOVES.items() if not targets)


def before(target: Status) -> list[Status]:
    """From where `target` may be reached: the condition of the update that moves there."""
    return [status for status, targets in MOVES.items() if target in targets]


# --- what is to be sent ---
class SignedLink(str):
    """A link that lets in whoever has it, by the `token` that it ends with. No template sees that, and no record holds
    it: it is put in as the message leaves."""

    __slots__ = ("token",)
    token: str

    def __new__(cls, url: str, token: str) -> "SignedLink":
        link = super().__new__(cls, url + token)
        link.token = token
        return link


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A message in words; empty where its template has none for a channel."""

    subject: str = ""
    text: str = ""
    html: str = ""
    sms: str = ""
    push: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One message to one recipient, by one channel at a time.

    `effect` is its business key within the tenant: a second one with the same key is the same one. `owner` is the
    subject who may see it, besides staff. `subject_id` and `version` say which version of what it tells of ("" and 0:
    of nothing that changes); with `latest_only` a newer version makes it pointless. `chain` are the channels that take
    over where `channel` can't. `link` names what is made at the moment of sending and never stored. `provider` may have
    it already: an attempt ended, or its process died, without anybody knowing. `lease_until` is None while nobody is
    sending it.
    """

    id: str
    tenant: str
    effect: str
    owner: str
    event_id: str
    recipient_id: str
    channel: ChannelName
    address: str
    category: str
    template: str
    locale: str
    context: Mapping[str, Any]
    traceparent: str
    created_at: datetime
    topic: str = ""
    subject_id: str = ""
    version: int = 0
    latest_only: bool = False
    critical: bool = False
    chain: tuple[ChannelName, ...] = ()
    link: str = ""
    group_id: str = ""
    attempts: int = 0
    digest_of: str | None = None
    provider: str = ""
    lease_until: datetime | None = None

    @property
    def of_bulk(self) -> bool:
        return self.group_id != "" and self.group_id == self.event_id


async def _not_recorded(provider: str) -> None:
    """Nobody writes it down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a channel is given, ready to go. `id` is the Message-ID and the provider's idempotency key; `subject_id`
    what it is about; `headers` are e-mail headers, ASCII and ours. `tokens` are in its words and in no record of it.

    `provider` may have it already. A channel with several calls `posting` with a provider's name before it asks that
    one: once it returns, whoever takes over from this process knows.
    """

    id: str
    tenant: str
    address: str
    rendered: Rendered
    context: Mapping[str, Any]
    template: str
    subject_id: str
    critical: bool
    traceparent: str
    recipient_id: str = ""
    category: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    tokens: Sequence[str] = field(default=(), repr=False)
    provider: str = ""
    posting: Callable[[str], Awaitable[None]] = field(default=_not_recorded, repr=False, compare=False)


def _once(chain: tuple[ChannelName, ...]) -> tuple[ChannelName, ...]:
    if len(set(chain)) < len(chain):
        raise ValueError("a channel stands here twice")
    return chain


Chain = Annotated[tuple[ChannelName, ...], AfterValidator(_once)]
