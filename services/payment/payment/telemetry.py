"""The payment service's own figures."""

import sqlalchemy as sa

from chassis.ids import now
from chassis.telemetry import meter
from payment.tables import payments, refunds

_unsettled = meter.create_gauge("payments_unsettled", description="Charges or refunds whose outcome is not known yet")
_oldest = meter.create_gauge("payments_oldest_unsettled_seconds", unit="s", description="Age of the oldest of them")


def figures(conn: sa.Connection) -> None:
    """For `chassis.figures`: what is still to be asked for is in an index of its own."""
    for kind, query in _QUERIES.items():
        count, oldest = conn.execute(query).one()
        _unsettled.set(count, {"kind": kind})
        _oldest.set(0.0 if oldest is None else (now() - oldest).total_seconds(), {"kind": kind})


_QUERIES = {
    kind: sa.select(sa.func.count(), sa.func.min(table.c.created_at)).where(table.c.next_check_at.is_not(None))
    for kind, table in (("charge", payments), ("refund", refunds))
}
