"""What is needed only for a while is thrown out, by one recurring job and at most so many rows by one transaction that
others write between two of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from chassis.db import Database, Timestamp
from chassis.ids import now
from chassis.jobs import Job
from chassis.tasks import for_each

BATCH = 1000  # rows by one transaction

_EVERY = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Expiry:
    """`delete` takes `:before` and deletes at most BATCH of the rows that are older."""

    delete: sa.Delete
    keep: timedelta

    @classmethod
    def of(cls, column: sa.Column[Any], keep: timedelta) -> "Expiry":
        """By the time in `column`, which has an index."""
        key = list(column.table.primary_key.columns)
        some = sa.select(*key).where(column < before()).limit(BATCH)
        return cls(delete=sa.delete(column.table).where(sa.tuple_(*key).in_(some)), keep=keep)


def before() -> sa.BindParameter[Any]:
    return sa.bindparam("before", type_=Timestamp)


def job(db: Database, expiries: Iterable[Expiry]) -> Job:
    known = tuple(expiries)
    return Job(name="Retention", every=_EVERY, work=lambda: throw_out(db, known))


async def throw_out(db: Database, expiries: Iterable[Expiry]) -> None:
    async def some_by_some(expiry: Expiry) -> None:
        old = {"before": now() - expiry.keep}
        while await db.write(lambda conn: conn.execute(expiry.delete, old).rowcount) == BATCH:
            pass

    await for_each(expiries, some_by_some, at_once=1, name=lambda expiry: str(expiry.delete.table))
