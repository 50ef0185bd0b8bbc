"""The back office: the nouns and the rules. Standard library and pydantic only."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class JobStatus(StrEnum):
    QUEUED = "Queued"
    PROCESSING = "Processing"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.PROCESSING, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.PROCESSING: frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.COMPLETED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}


def moves_into(target: JobStatus) -> list[JobStatus]:
    """The statuses from which `target` may be reached."""
    return [status for status, targets in MOVES.items() if target in targets]


DATA_EXPORT = "DataExport"  # the one type of job that there is


class ExportKind(StrEnum):
    ORDERS = "orders"
    PAYMENTS = "payments"
    NOTIFICATIONS = "notifications"


class ExportFormat(StrEnum):
    XLSX = "xlsx"
    CSV = "csv"
    JSONL = "jsonl"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Who has the rows of a kind, and the statuses that they are in: a misspelt one would find nothing in silence."""

    app_id: str
    statuses: frozenset[str]


SOURCES = {
    ExportKind.ORDERS: Source(
        app_id="order-service",
        statuses=frozenset(
            {"pending_payment", "confirmed", "preparation", "ready", "shipped", "delivered", "payment_failed"}
            | {"cancelled"}
        ),
    ),
    ExportKind.PAYMENTS: Source(
        app_id="payment-service",
        statuses=frozenset({"processing", "succeeded", "declined", "failed", "partially_refunded", "refunded"}),
    ),
    ExportKind.NOTIFICATIONS: Source(
        app_id="notification-service",
        statuses=frozenset({"queued", "sending", "sent", "delivered", "bounced", "failed", "suppressed"}),
    ),
}


class TraceNotFound(Exception):
    """Not kept, or none that the caller may see."""


class TracesNotConfigured(Exception):
    """Nobody has said where they are asked for."""


class NoMap(Exception):
    """The configured store can't say who calls whom."""


class JobNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("There is no such job.")


class JobOfOtherTenant(Exception):
    def __init__(self) -> None:
        super().__init__("Job belongs to different tenant")


class NotYourJob(Exception):
    def __init__(self) -> None:
        super().__init__("It is somebody else's job; the role admin is missing.")


class JobEnded(Exception):
    def __init__(self, status: str) -> None:
        super().__init__(f"The job is {status}: there is nothing to cancel.")
        self.members: dict[str, Any] = {"current": status}


class LinkForged(Exception):
    def __init__(self) -> None:
        super().__init__("This link was not made here.")


class LinkExpired(Exception):
    def __init__(self) -> None:
        super().__init__("The link has expired; the job has a new one for as long as its file is kept.")


class FileGone(Exception):
    def __init__(self) -> None:
        super().__init__("The file is not kept any more.")


class SettingNotFound(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(f"Nothing is set under {key}.")


class TooManySettings(Exception):
    def __init__(self, most: int) -> None:
        super().__init__(f"A tenant has {most} settings at most.")


class ConcurrencyConflict(Exception):
    def __init__(self, current: int) -> None:
        super().__init__(f"It is at version {current} by now; 0 is none.")
        self.members: dict[str, Any] = {"currentVersion": current}
