"""The life cycle of a row: every change of a status is one update, from where `MOVES` lets it come."""

from typing import Any

import sqlalchemy as sa

from notification.domain import FINAL, Status, before
from notification.tables import notifications


def move(to: Status, which: sa.ColumnElement[bool], **values: Any) -> sa.Update:
    """Of the rows of `which` those that may go to `to`, or wait there already. Whatever is not said again, they lose
    their lease and the time of their next attempt."""
    origins = [*before(to), *({to} - FINAL)]
    allowed = sa.or_(*(notifications.c.status == origin for origin in origins))  # an IN can't be run for many at once
    values = {"lease_until": None, "next_attempt_at": None} | values
    return sa.update(notifications).where(which, allowed).values(status=to, **values)
