"""Events between services: CloudEvents 1.0 out and in, each taken once.

A producer's `events.py` subclasses `Event`. A consumer declares only the fields it uses, as a model of its own, and
commits `first_time` together with its effect.
"""

from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated, Any, ClassVar, Self, cast

import orjson
import sqlalchemy as sa
import structlog
from fastapi import Request, Response
from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, Observation
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from chassis.db import DATABASE_DOWN, Timestamp, upsert_in
from chassis.edge.auth import TENANT
from chassis.ids import now
from chassis.problems import Unavailable
from chassis.telemetry import meter, told_of
from chassis.texts import one_line
from chassis.wire import Wire

log = structlog.get_logger()


class Event(Wire):
    """A past-tense fact. `version` is the aggregate's: consumers never let an older one overwrite a newer."""

    topic: ClassVar[str]
    type: ClassVar[str]

    version: int = Field(ge=1)


class CloudEvent(BaseModel):
    """What arrives: the attributes that matter here. One that is null is unset. `data` is validated by the handler that
    wants it, and may have come as `data_base64`."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(min_length=1, max_length=255)
    type: str
    source: str = Field(default="", max_length=255)
    subject: str = ""
    tenantid: str = Field(default="default", pattern=TENANT)
    tenantname: Annotated[str, AfterValidator(lambda name: one_line(name)[:255])] = ""
    traceparent: str = ""
    time: datetime | None = None
    data: Any = None

    @model_validator(mode="before")
    @classmethod
    def _as_others_write_it(cls, event: Any) -> Any:
        if not isinstance(event, dict):
            return event
        told = {name: value for name, value in cast("dict[str, Any]", event).items() if value is not None}
        if isinstance(encoded := told.get("data_base64"), str) and "data" not in told:
            told["data"] = orjson.loads(b64decode(encoded, validate=True))
        return told


class InvalidEvent(Exception):
    """This event can never be processed; it goes to the dead letters."""


_ANY_SOURCE = "*"  # of a row from before sources were kept: its event is known by its id alone


def event_processing_table(metadata: sa.MetaData) -> sa.Table:
    """An event is known by its source and its id: ids are unique in their source only."""
    return sa.Table(
        "event_processing",
        metadata,
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("consumer", sa.String(64), primary_key=True),
        sa.Column("source", sa.String(255), primary_key=True, server_default=_ANY_SOURCE),
        sa.Column("event_id", sa.String(255), primary_key=True),
        sa.Column("processed_at", Timestamp, nullable=False),
        sa.Index("ix_event_processing_processed", "processed_at"),
    )


def first_time(conn: sa.Connection, table: sa.Table, *, tenant: str, consumer: str, source: str, event_id: str) -> bool:
    """Whether this consumer has not taken the event yet; says so once, in the transaction of its effect."""
    row = {"tenant": tenant, "consumer": consumer, "source": source, "event_id": event_id, "processed_at": now()}
    return conn.execute(_insert_once(conn.dialect.name, table), row).rowcount == 1


@cache
def _insert_once(dialect: str, table: sa.Table) -> Any:
    row = {column.name: sa.bindparam(column.name, type_=column.type) for column in table.columns}
    same = [table.c[name] == row[name] for name in ("tenant", "consumer", "event_id")]
    known = sa.exists().where(*same, table.c.source == _ANY_SOURCE)
    return (
        upsert_in(dialect, table)
        .from_select(list(row), sa.select(*row.values()).where(~known))
        .on_conflict_do_nothing()
    )


_PARTITION = "__partition"  # as Kafka's component tells it

Handler = Callable[[str, CloudEvent], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Handled:
    """When an event came to be handled, and how old it was then; None where it doesn't tell its time."""

    at: datetime
    age_seconds: float | None

    @classmethod
    def of(cls, event: CloudEvent) -> Self:
        at = now()
        if event.time is None or event.time.tzinfo is None:
            return cls(at, None)
        return cls(at, max(0.0, (at - event.time).total_seconds()))


# The last delivery of each topic and partition to this process, whatever came of it: an event that is tried again and
# again grows older and holds up all that is behind it. Where nothing came for a minute nothing waits, since a sidecar
# tries again sooner; or the partition is another replica's by now.
_delivered: dict[tuple[str, str], Handled] = {}
_QUIET = timedelta(minutes=1)


def _ages(_: CallbackOptions) -> Iterable[Observation]:
    for (topic, partition), last in tuple(_delivered.items()):
        where = {"topic": topic, **({"partition": partition} if partition else {})}
        yield Observation(last.age_seconds if last.age_seconds and now() - last.at < _QUIET else 0.0, where)


_age = meter.create_observable_gauge(
    "events_age_seconds",
    [_ages],
    unit="s",
    description="Age of the event last delivered, by topic and, where the broker has such, partition",
)

_SUCCESS, _RETRY = {"status": "SUCCESS"}, {"status": "RETRY"}


async def consume(topic: str, body: Any, handle: Handler) -> dict[str, str]:
    """Dapr's answer for one delivery. A type that isn't for us is the handler's to pass over.

    Infrastructure that is down answers RETRY (the subscription's policy repeats without end). An invalid event, or
    one that breaks its handler, is dropped to the dead letters, where it is kept and can be replayed; `reason`, which
    Dapr passes over, is for whoever replays it.
    """
    try:
        event = CloudEvent.model_validate(body)
        with told_of(tenant=event.tenantid, tenant_name=event.tenantname, event_id=event.id):
            trace.get_current_span().set_attribute("peer.service", event.source)
            await handle(topic, event)
    except (*DATABASE_DOWN, Unavailable, OSError) as down:
        log.warning("event.retry", error=type(down).__name__)
        return _RETRY
    except (InvalidEvent, ValidationError) as invalid:
        log.warning("event.dropped", reason=(reason := _reason(invalid)))
        return _dropped(reason)
    except Exception:
        log.exception("event.broke_its_handler")
        return _dropped("it broke its handler")
    return _SUCCESS


async def receive(request: Request, topic: str, handle: Handler) -> Response:
    """The whole of a route that the sidecar delivers to.

    Read here, not by FastAPI: its 422 for what is no event would make Dapr deliver it for ever.
    """

    async def handle_and_note(topic: str, event: CloudEvent) -> None:
        delivered = Handled.of(event)
        _delivered[topic, request.headers.get(_PARTITION, "")] = delivered
        await handle(topic, event)
        request.app.state.handled[topic] = delivered

    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        body = None
    return Response(orjson.dumps(await consume(topic, body, handle_and_note)), media_type="application/json")


def _dropped(reason: str) -> dict[str, str]:
    return {"status": "DROP", "reason": reason}


def _reason(error: InvalidEvent | ValidationError) -> str:
    """Where and why, never the value: it may be personal."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'event'}: {one['type']}" for one in error.errors())
    return str(error)
