"""The system scope: rows of any tenant. Named and kept apart, because what a request sees is never decided here."""

from typing import Any

import sqlalchemy as sa

from payment.tables import payments, refunds

# Built once: building a statement costs several times what running it does.
_CHARGES_UNDER = sa.select(payments).where(payments.c.key == sa.bindparam("of_key"))


def charges_under(conn: sa.Connection, key: str) -> list[sa.RowMapping]:
    """The charges that a provider knows by `key`: one, since the keys are made of our own orders' ids."""
    return list(conn.execute(_CHARGES_UNDER, {"of_key": key}).mappings())


def charge_of(conn: sa.Connection, payment_id: str) -> sa.RowMapping:
    return conn.execute(sa.select(payments).where(payments.c.id == payment_id)).mappings().one()


def refunds_under(conn: sa.Connection, key: str) -> list[sa.RowMapping]:
    """The refunds that a provider knows by `key`, or did when they were begun before: see `domain.provider_key`."""
    known_by: Any = sa.or_(refunds.c.key == key, refunds.c.id == key.partition(":")[0])
    return list(conn.execute(sa.select(refunds).where(known_by)).mappings())
