"""Dead letters on record: a tenant's, how each stands, and who did what to it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from chassis.ids import new_id, now
from chassis.tenants import elsewhere
from notification.domain import ConcurrencyConflict, DeadLetterClosed, OtherTenant, UnknownDeadLetter
from notification.queue.history import Page, Rows, paged
from notification.tables import dead_letter_moves, dead_letters


class LetterStatus(StrEnum):
    """`waiting` for a person; one that dies again after it was replayed or discarded waits again."""

    WAITING = "waiting"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


class Action(StrEnum):
    EDITED = "edited"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


class Outcome(StrEnum):
    """Of a replay: the app processed it, said that it can't, or gave no answer that says either."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """What to list; None is everything."""

    status: LetterStatus | None = None
    app: str | None = None
    topic: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One that somebody has asked for: the letter as it was then, and the record of it."""

    letter: sa.Row[Any]
    move_id: str


_c = dead_letters.c
_STATUS = sa.case(
    (_c.discarded_at.is_not(None), LetterStatus.DISCARDED.value),
    (_c.replayed_at.is_not(None), LetterStatus.REPLAYED.value),
    else_=LetterStatus.WAITING.value,
)
_WAITING = sa.and_(_c.discarded_at.is_(None), _c.replayed_at.is_(None))


def status_of(letter: sa.Row[Any]) -> LetterStatus:
    if letter.discarded_at is not None:
        return LetterStatus.DISCARDED
    return LetterStatus.WAITING if letter.replayed_at is None else LetterStatus.REPLAYED


class DeadLetters:
    """A tenant's dead letters."""

    def __init__(self, conn: sa.Connection, tenant: str) -> None:
        self._conn = conn
        self._tenant = tenant

    # --- reading ---

    def page(self, filters: LetterFilter, page: Page) -> Rows:
        """Newest first."""
        asked = {_STATUS: filters.status, _c.app: filters.app, _c.topic: filters.topic, _c.type: filters.type}
        query = sa.select(dead_letters).where(self._of_tenant)
        query = query.where(*(column == value for column, value in asked.items() if value is not None))
        return paged(self._conn, dead_letters, query, page)

    def get(self, letter_id: str) -> sa.Row[Any]:
        """Raises UnknownDeadLetter or OtherTenant."""
        query = sa.select(dead_letters).where(self._this(letter_id))
        if (row := self._conn.execute(query).one_or_none()) is not None:
            return row
        if elsewhere(self._conn, dead_letters, self._tenant, id=letter_id):
            raise OtherTenant("Dead letter")
        raise UnknownDeadLetter(letter_id)

    def history(self, letter_id: str) -> list[sa.Row[Any]]:
        """Oldest first. Raises as `get`."""
        self.get(letter_id)
        query = sa.select(dead_letter_moves).where(dead_letter_moves.c.letter_id == letter_id)
        return list(self._conn.execute(query.order_by(dead_letter_moves.c.id)))

    # --- what people do ---

    def edit(self, letter_id: str, body: str, *, version: int, by: str) -> None:
        """Raises DeadLetterClosed, or ConcurrencyConflict unless `version` is the present one, and as `get`."""
        before = self.get(letter_id).body
        if not self._move(letter_id, _WAITING, _c.version == version, body=body, reason="", version=version + 1):
            letter = self.get(letter_id)
            if (status := status_of(letter)) is not LetterStatus.WAITING:
                raise DeadLetterClosed(status)
            raise ConcurrencyConflict(letter.version)
        self._record(letter_id, Action.EDITED, by=by, before=before, after=body)

    def discard(self, letter_id: str, *, by: str, reason: str) -> None:
        """Nobody delivers it any more. Once more, it stays as it is. Raises DeadLetterClosed, and as `get`."""
        if self._move(letter_id, _WAITING, discarded_at=now(), version=_c.version + 1):
            self._record(letter_id, Action.DISCARDED, by=by, reason=reason)
        elif (status := status_of(self.get(letter_id))) is not LetterStatus.DISCARDED:
            raise DeadLetterClosed(status)

    def begin_replay(self, letter_id: str, *, by: str) -> Replay:
        """On record before it is delivered. Raises DeadLetterClosed for one that was discarded, and as `get`."""
        letter = self.get(letter_id)
        if (status := status_of(letter)) is LetterStatus.DISCARDED:
            raise DeadLetterClosed(status)
        return Replay(letter=letter, move_id=self._record(letter_id, Action.REPLAYED, by=by))

    def end_replay(self, replay: Replay, outcome: Outcome, reason: str = "") -> None:
        """The letter is replayed where it was delivered, whatever somebody else did to it meanwhile, unless it has died
        again since."""
        letter, moves = replay.letter, dead_letter_moves
        ended = sa.update(moves).where(moves.c.id == replay.move_id)
        self._conn.execute(ended.values(outcome=outcome, reason=reason))
        if outcome is Outcome.UNANSWERED:
            return
        changed: dict[str, Any] = {"reason": reason, "version": _c.version + 1}
        if outcome is Outcome.DELIVERED:
            changed |= {"replayed_at": now(), "discarded_at": None}
        self._move(letter.id, _c.received_at == letter.received_at, **changed)

    def _move(self, letter_id: str, *only_if: sa.ColumnElement[bool], **changed: Any) -> bool:
        moved = sa.update(dead_letters).where(self._this(letter_id), *only_if).values(changed)
        return self._conn.execute(moved).rowcount == 1

    def _record(self, letter_id: str, action: Action, *, by: str, **told: str) -> str:
        move_id = new_id()
        move = {"id": move_id, "letter_id": letter_id, "at": now(), "by": by, "action": action, **told}
        self._conn.execute(sa.insert(dead_letter_moves), move)
        return move_id

    def _this(self, letter_id: str) -> sa.ColumnElement[bool]:
        return sa.and_(self._of_tenant, _c.id == letter_id)

    @property
    def _of_tenant(self) -> sa.ColumnElement[bool]:
        """What every statement here is bound to."""
        return _c.tenant == self._tenant
