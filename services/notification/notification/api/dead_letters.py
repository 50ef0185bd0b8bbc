"""Dead letters: events that an app could not process, to be looked at, edited, delivered again or discarded."""

import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, cast

import orjson
import sqlalchemy as sa
from fastapi import Depends, Query, Request
from pydantic import Field, StringConstraints

from chassis import problems
from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.problems import FieldProblem, Unavailable
from chassis.wire import RequestBody, Wire, example
from notification.api.notifications import page_of
from notification.api.shapes import Context, Text
from notification.domain import DeadLetterClosed, NotReplayable, OtherTenant, UnknownDeadLetter
from notification.incoming.dead_letter_records import Action, LetterFilter, LetterStatus, Outcome, status_of
from notification.incoming.redelivery import parsed, with_data
from notification.queue.history import Page
from notification.services import services
from notification.unit_of_work import UnitOfWork

_AT_ONCE = 100
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-")

Reason = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Ids = Annotated[list[Text], Field(min_length=1, max_length=_AT_ONCE)]


class DeadLetterView(Wire):
    """`app` could not process it, `times` often; `body` is what is delivered to it again: as it came, or as it was
    edited. `source`, `eventId` and `type` are "" where the body has none, and are cut to 255 and 128 characters.
    `reason` is the app's own word to its last replay, "" where it had none. `version` grows with all that happens."""

    id: str
    app: str
    topic: str
    source: str
    event_id: str
    type: str
    body: str
    status: LetterStatus
    times: int
    reason: str
    received_at: datetime
    replayed_at: datetime | None
    discarded_at: datetime | None
    version: int


class DeadLetterDetail(DeadLetterView):
    """`event` is the body, null where it is no JSON; `original` the one that came, where it was edited. `problems` keep
    it from being processed, as far as its schema is known here; their pointers lead into the event. By `traceId` the
    app's log says more; "" where the event has none."""

    event: Any
    original: Any
    problems: list[FieldProblem]
    trace_id: str


class DeadLetterPage(Wire):
    """`next` is the `cursor` of the following page, null on the last one."""

    items: list[DeadLetterView]
    next: str | None


class DeadLetterMove(Wire):
    """What the subject `by` did. `outcome` is a replay's, null while nobody knows. `reason` is that of who discarded
    it, or the app's that refused it. `before` and `after` are the event's data where it was edited."""

    at: datetime
    by: str
    action: Action
    outcome: Outcome | None
    reason: str
    before: Any
    after: Any


class DeadLetterHistory(Wire):
    items: list[DeadLetterMove]


class EditedData(RequestBody, json_schema_extra=example(data={"version": 2, "orderId": "o-1"}, version=1)):
    """`data` takes the place of the event's, whose other attributes stay; `version` is the one that was read."""

    data: Context
    version: Annotated[int, Field(ge=1, lt=2**31 - 1)]


class Discarding(RequestBody, json_schema_extra=example(reason="of the test run in May")):
    reason: Reason


class SomeLetters(RequestBody, json_schema_extra=example(ids=["0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0b01"])):
    """At most 100."""

    ids: Ids


class DiscardingSome(
    SomeLetters,
    json_schema_extra=example(ids=["0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0b01"], reason="of the test run in May"),
):
    reason: Reason


class LetterResult(Wire):
    """`errorType` and `detail` say why it was not `done`, as the problem document of one alone would."""

    id: str
    done: bool
    error_type: str | None = None
    detail: str | None = None


class LetterResults(Wire):
    """In the order of the letters' age, each once."""

    items: list[LetterResult]


async def _filter(
    status: LetterStatus | None = None,
    app: Annotated[Text | None, Query()] = None,
    topic: Annotated[str | None, Query(max_length=128, pattern=r"^[^\x00]+$")] = None,
    kind: Annotated[str | None, Query(alias="type", max_length=128, pattern=r"^[^\x00]+$")] = None,
) -> LetterFilter:
    return LetterFilter(status=status, app=app, topic=topic, type=kind)


_UNKNOWN = {403: "different-tenant", 404: "dead-letter-not-found"}
_CLOSED = {409: "dead-letter-closed"}
_REPLAY = {
    **_UNKNOWN,
    409: "not-replayable, dead-letter-closed",
    503: "database-unavailable, sidecar-unavailable, app-unavailable",
}


router = Routes(
    prefix="/api/v1/dead-letters",
    tags=["dead letters"],
    responses=refused({422: "invalid-request", 503: "database-unavailable"}),
)


@router.get("")
async def list_dead_letters(
    request: Request, filters: Annotated[LetterFilter, Depends(_filter)], page: Annotated[Page, Depends(page_of)]
) -> DeadLetterPage:
    """Newest first."""
    caller = caller_of(request)
    units = services(request).units
    rows, following = await units.read(caller.tenant, lambda unit: unit.dead_letters.page(filters, page))
    return DeadLetterPage(items=[DeadLetterView(**_facts(row)) for row in rows], next=following)


@router.post("/replay")
async def replay_dead_letters(request: Request, body: SomeLetters) -> LetterResults:
    """Each as alone, the oldest first. Of an app that gives no answer the rest is not tried."""
    by, silent = caller_of(request), set[str]()

    async def replay(letter_id: str) -> None:
        made = services(request)
        app = (await made.units.read(by.tenant, lambda unit: unit.dead_letters.get(letter_id))).app
        if app in silent:
            raise Unavailable("app")
        try:
            await made.redelivery.replay(by.tenant, letter_id, by=by.subject)
        except Unavailable:
            silent.add(app)
            raise

    return await _each(request, body.ids, replay)


@router.post("/discard")
async def discard_dead_letters(request: Request, body: DiscardingSome) -> LetterResults:
    """Each as alone."""
    return await _each(request, body.ids, lambda letter_id: _discard(request, letter_id, body.reason))


@router.get("/{letter_id}", responses=refused(_UNKNOWN))
async def get_dead_letter(request: Request, letter_id: Text) -> DeadLetterDetail:
    return await _detail(request, letter_id)


@router.put(
    "/{letter_id}", responses=refused(_UNKNOWN | {409: "concurrency-conflict, dead-letter-closed, not-replayable"})
)
async def edit_dead_letter(request: Request, letter_id: Text, body: EditedData) -> DeadLetterDetail:
    """Of one that waits. The event keeps its source and id, and what came is kept beside it. Refused where the data is
    not what the event's schema says, as far as that is known here."""
    caller, made = caller_of(request), services(request)
    row = await made.units.read(caller.tenant, lambda unit: unit.dead_letters.get(letter_id))
    event = with_data(parsed(row.body), body.data)
    if wrong := [one for one in await made.redelivery.problems(row, event) if one.pointer.startswith("/data")]:
        raise problems.invalid(wrong)
    text = orjson.dumps(event).decode()

    def work(unit: UnitOfWork) -> None:
        unit.dead_letters.edit(letter_id, text, version=body.version, by=caller.subject)

    await made.units.write(caller.tenant, work)
    return await _detail(request, letter_id)


@router.get("/{letter_id}/history", responses=refused(_UNKNOWN))
async def list_dead_letter_moves(request: Request, letter_id: Text) -> DeadLetterHistory:
    """Who did what to it, oldest first."""
    caller = caller_of(request)
    units = services(request).units
    rows = await units.read(caller.tenant, lambda unit: unit.dead_letters.history(letter_id))
    return DeadLetterHistory(items=[_move(row) for row in rows])


@router.post("/{letter_id}/replay", responses=refused(_REPLAY))
async def replay_dead_letter(request: Request, letter_id: Text) -> DeadLetterView:
    """Deliver the event again, to the app that could not process it and to no other; 200 once it is processed."""
    caller, made = caller_of(request), services(request)
    await made.redelivery.replay(caller.tenant, letter_id, by=caller.subject)
    return DeadLetterView(**_facts(await _row(request, letter_id)))


@router.post("/{letter_id}/discard", responses=refused(_UNKNOWN | _CLOSED))
async def discard_dead_letter(request: Request, letter_id: Text, body: Discarding) -> DeadLetterView:
    """Nobody delivers it any more; it stays on record. Of one that waits; once more, it stays as it is."""
    await _discard(request, letter_id, body.reason)
    return DeadLetterView(**_facts(await _row(request, letter_id)))


async def _discard(request: Request, letter_id: str, reason: str) -> None:
    caller, made = caller_of(request), services(request)

    def work(unit: UnitOfWork) -> None:
        unit.dead_letters.discard(letter_id, by=caller.subject, reason=reason)

    await made.units.write(caller.tenant, work)


async def _each(request: Request, ids: list[str], work: Callable[[str], Awaitable[None]]) -> LetterResults:
    results: list[LetterResult] = []
    for letter_id in sorted(set(ids)):  # UUIDv7: by time
        try:
            await work(letter_id)
            results.append(LetterResult(id=letter_id, done=True))
        except (UnknownDeadLetter, OtherTenant, NotReplayable, DeadLetterClosed, Unavailable) as error:
            problem = problems.of(error, request.app.state.refusals)
            why = {"error_type": problem.error_type, "detail": problem.detail}
            results.append(LetterResult(id=letter_id, done=False, **why))
    return LetterResults(items=results)


async def _row(request: Request, letter_id: str) -> sa.Row[Any]:
    return await services(request).units.read(caller_of(request).tenant, lambda unit: unit.dead_letters.get(letter_id))


async def _detail(request: Request, letter_id: str) -> DeadLetterDetail:
    made = services(request)
    row, moves = await made.units.read(
        caller_of(request).tenant,
        lambda unit: (unit.dead_letters.get(letter_id), unit.dead_letters.history(letter_id)),
    )
    event = parsed(row.body)
    came = next((move.before for move in moves if move.action == Action.EDITED), None)
    return DeadLetterDetail(
        **_facts(row),
        event=event,
        original=None if came is None else parsed(came),
        problems=await made.redelivery.problems(row, event),
        trace_id=_trace_id(event),
    )


def _facts(row: sa.Row[Any]) -> dict[str, Any]:
    stored = set(DeadLetterView.model_fields) - {"status"}
    return {name: getattr(row, name) for name in stored} | {"status": status_of(row)}


def _move(row: sa.Row[Any]) -> DeadLetterMove:
    told = {name: getattr(row, name) for name in DeadLetterMove.model_fields}
    return DeadLetterMove(**(told | {"before": _data(row.before), "after": _data(row.after)}))


def _data(body: str | None) -> Any:
    return None if body is None else parsed(body).get("data")


def _trace_id(event: Any) -> str:
    parent = cast("dict[str, Any]", event).get("traceparent") if isinstance(event, dict) else None
    found = _TRACEPARENT.match(parent) if isinstance(parent, str) else None
    return found[1] if found else ""
