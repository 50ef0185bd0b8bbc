"""The record of every move: who, when, why, and the provider's reference. Written in the transaction of the move."""

from typing import Any

import sqlalchemy as sa

from chassis.ids import new_id, now
from payment.domain import Charge, Refund
from payment.tables import moves

_INSERT = sa.insert(moves)


def record_move(
    conn: sa.Connection, after: Charge | Refund, *, before: str, actor: str, reason: str | None = None
) -> None:
    """`after` is the payment or refund as the move has left it."""
    row: dict[str, Any] = {
        "id": new_id(),
        "tenant": after.tenant,
        "payment_id": after.payment_id if isinstance(after, Refund) else after.id,
        "refund_id": after.id if isinstance(after, Refund) else None,
        "from_status": before,
        "to_status": after.status,
        "actor": actor[:255],
        "reason": (reason or after.reason or "")[:255] or None,
        "reference": after.transaction_id,
        "at": now(),
    }
    conn.execute(_INSERT, row)
