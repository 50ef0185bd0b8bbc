"""A dead letter, delivered again to the app that could not process it and to no other; and its event, as a person has
edited it. The event keeps its source and id: an app that has taken it passes over it."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, cast

import orjson
import sqlalchemy as sa
from pydantic import ValidationError

from chassis.db import Database
from chassis.events import CloudEvent, InvalidEvent
from chassis.problems import FieldProblem, Unavailable, pointer_to
from chassis.sidecar import Sidecar, Verdict
from chassis.texts import one_line
from notification import events
from notification.domain import NotReplayable
from notification.incoming import foreign_events
from notification.incoming.dead_letter_records import DeadLetters, Outcome, Replay
from notification.incoming.dead_letters import LONGEST
from notification.incoming.intake import Intake

_SCHEMAS = {(known.topic, known.type): known for known in (*events.EVENTS, *foreign_events.EVENTS)}


class Redelivery:
    """`app_id` is this app's: how it reads an event, it knows itself."""

    def __init__(self, *, app_id: str, db: Database, sidecar: Sidecar, intake: Intake) -> None:
        self._app_id = app_id
        self._db = db
        self._sidecar = sidecar
        self._intake = intake

    async def replay(self, tenant: str, letter_id: str, *, by: str) -> None:
        """Once it is processed. Raises NotReplayable, Unavailable where it may work later, and as `begin_replay`."""
        replay = await self._db.write(lambda conn: DeadLetters(conn, tenant).begin_replay(letter_id, by=by))

        async def ended(outcome: Outcome, reason: str = "") -> None:
            await self._db.write(lambda conn: DeadLetters(conn, tenant).end_replay(replay, outcome, reason))

        try:
            await self._deliver(replay)
        except NotReplayable as refused:
            await ended(Outcome.REFUSED, str(refused))
            raise
        except Unavailable:
            await ended(Outcome.UNANSWERED)
            raise
        await ended(Outcome.DELIVERED)

    async def _deliver(self, replay: Replay) -> None:
        """To the app's route for the topic, `/events/<topic>`, as its sidecar would; by invocation, since what is
        published reaches all who hear it."""
        letter = replay.letter
        event = parsed(letter.body)
        if event is None:
            raise NotReplayable("It is no JSON")
        answer = await self._sidecar.invoke(letter.app, f"events/{letter.topic}", _readable(event), private=True)
        # Without a word of its own nobody knows: a 200 may be a sidecar's that died.
        said = cast("dict[str, Any]", answer.data) if isinstance(answer.data, dict) else {}
        status = said.get("status")
        if answer.verdict is Verdict.REFUSED or (answer.verdict is Verdict.ANSWERED and status == "DROP"):
            why = f": {one_line(str(said['reason']))}" if status == "DROP" and said.get("reason") else ""
            raise NotReplayable(f"{letter.app} can't process it{why}"[:LONGEST])
        if answer.verdict is not Verdict.ANSWERED or status != "SUCCESS":
            raise Unavailable("app")

    async def problems(self, letter: sa.Row[Any], event: Any) -> list[FieldProblem]:
        """What keeps `event`, in the place of the letter's, from being processed, as far as its schema is known here.
        Pointers lead into the event."""
        try:
            cloud_event = CloudEvent.model_validate(_readable(event))
        except ValidationError as error:
            return list(_at("", error))
        schema = _SCHEMAS.get((letter.topic, cloud_event.type))
        if schema is not None:
            try:
                schema.model_validate(cloud_event.data)
            except ValidationError as error:
                return list(_at("data", error))
        if letter.app == self._app_id:
            try:
                await self._intake.check(letter.topic, cloud_event)
            except InvalidEvent as error:
                path, _, detail = str(error).partition(": ")
                return [FieldProblem(pointer=pointer_to(["data", *path.split(".")]), detail=detail)]
        return []


def parsed(body: str) -> Any:
    """None for what is no JSON, as well as for `null`, which is no event either."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def with_data(event: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """All else stays as it came. Raises NotReplayable where there is no event to stay."""
    if not isinstance(event, dict):
        raise NotReplayable("It is no event")
    kept = {name: value for name, value in cast("dict[str, Any]", event).items() if name != "data_base64"}
    return kept | {"data": dict(data)}


def _at(root: str, error: ValidationError) -> Iterator[FieldProblem]:
    for one in error.errors(include_url=False, include_input=False):
        yield FieldProblem(pointer=pointer_to([*filter(None, [root]), *one["loc"]]), detail=one["msg"])


def _readable(event: Any) -> Any:
    """With the hash of an id, or source, that is longer than any app takes: as much its own, whenever it comes."""
    if not isinstance(event, dict):
        return event
    given = cast("dict[str, Any]", event)
    names = {name: given[name] for name in ("id", "source") if isinstance(given.get(name), str)}
    hashed = {name: hashlib.sha256(value.encode()).hexdigest() for name, value in names.items() if len(value) > LONGEST}
    return given | hashed
