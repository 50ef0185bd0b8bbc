"""Order rows: how they become orders and facts, and the statements of the hot path.

Those are built once: building a statement costs several times what running it does.
"""

from decimal import Decimal
from typing import Any

import orjson
import sqlalchemy as sa
from pydantic import TypeAdapter

from order.declines import DeclineCode
from order.domain import Customer, Item, Location, Money, Notice, Notified, Order, Payment, PaymentStatus, Status
from order.tables import orders

Row = sa.Row[Any]

items_json = TypeAdapter(list[Item])

_by_id = (orders.c.tenant == sa.bindparam("of_tenant"), orders.c.id == sa.bindparam("of_id"))

INSERT = sa.insert(orders)
SELECT = sa.select(orders).where(*_by_id)
CONFIRM = (
    sa.update(orders)
    .where(*_by_id, orders.c.status == Status.PENDING_PAYMENT)
    .values(
        status=Status.CONFIRMED,
        payment_status=PaymentStatus.SUCCEEDED,
        payment_id=sa.bindparam("paid_id"),
        transaction_id=sa.bindparam("paid_transaction"),
        version=orders.c.version + 1,
        card_token=None,
        lease_until=None,
        due_at=None,
    )
    .returning(orders)
)
_message = (sa.bindparam("message_id", type_=sa.String), sa.bindparam("message_version", type_=sa.Integer))
_older = sa.tuple_(orders.c.notified_by, orders.c.notified_version) < sa.tuple_(*_message)
NOTIFIED = (
    sa.update(orders)
    .where(*_by_id, sa.or_(orders.c.notified_by.is_(None), _older))
    .values(
        notified=sa.bindparam("notice"),
        notified_at=sa.bindparam("at"),
        notified_by=_message[0],
        notified_version=_message[1],
    )
)


def to_order(row: Row) -> Order:
    return Order(
        id=row.id,
        tenant_id=row.tenant,
        owner=row.owner,
        status=Status(row.status),
        customer=Customer.model_validate_json(row.customer),
        items=items_json.validate_json(row.items),
        total=Money(amount=Decimal(row.total), currency=row.currency),
        payment=Payment(id=row.payment_id, status=PaymentStatus(row.payment_status), transaction_id=row.transaction_id),
        decline_code=DeclineCode(row.decline_code) if row.decline_code else None,
        location=Location(row.location),
        tracking_number=row.tracking_number,
        notified=to_notified(row),
        created_at=row.created_at,
        version=row.version,
    )


def to_notified(row: Row) -> Notified | None:
    return Notified(status=Notice(row.notified), at=row.notified_at) if row.notified else None


def to_facts(order: Order) -> dict[str, Any]:
    """An order as the fields of an event."""
    facts = orjson.loads(order.model_dump_json(by_alias=True))
    return facts | {"orderId": order.id, "ownerId": order.owner}
