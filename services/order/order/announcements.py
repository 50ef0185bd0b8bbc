"""What is told of an order's moves, in the transaction of the move: an event to other services, and a row of the change
feed to whoever watches. That row says nothing of a person but the `ownerId`, and is gone after a week."""

import sqlalchemy as sa

from chassis.changes.feed import Changes
from chassis.outbox import Outbox
from order.domain import Order
from order.events import OrderEvent
from order.rows import to_facts

FEED = "orders"

_LONGEST_KEY = 128  # characters that the feed keeps


class Announcements:
    def __init__(self, *, outbox: Outbox, changes: Changes) -> None:
        self._outbox = outbox
        self._changes = changes

    def add(
        self,
        conn: sa.Connection,
        event: type[OrderEvent],
        order: Order,
        *,
        tenant_name: str,
        parent: str,
        more: dict[str, str],
    ) -> None:
        """To the caller's transaction; after its commit, call `wake`."""
        fact = event.model_validate(to_facts(order) | more)
        tenant = {"tenant": order.tenant_id, "tenant_name": tenant_name}
        self._outbox.add(conn, fact, **tenant, aggregate_id=order.id, parent=parent)
        watched = {"orderId": order.id, "ownerId": order.owner, "status": order.status, "version": order.version}
        self._changes.add(conn, tenant=order.tenant_id, topic=FEED, key=key_of(order.owner), data=watched)

    def wake(self) -> None:
        self._outbox.wake()
        self._changes.wake()


def key_of(owner: str) -> str:
    """By which a user's own orders are found in the feed; of two that it can't tell apart `ownerId` decides."""
    return owner[:_LONGEST_KEY]
