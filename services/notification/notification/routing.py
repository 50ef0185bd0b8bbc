"""Which event is told to whom, by which channel and in which words: data, read top to bottom."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

from notification.domain import ChannelName

EMAIL, PUSH = ChannelName.EMAIL, ChannelName.PUSH


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One message. Without `status` it holds for every status the event may tell.

    `recipient` and `address` are paths into the event's data. `told_as` is the status in the push provider's words.
    """

    type: str
    channel: ChannelName
    template: str
    status: str | None = None
    recipient: str = "customer.id"
    address: str = "customer.email"
    told_as: str = ""


_CHANGED = "order.status-changed.v1"
_SHIPPED = "order.shipped.v1"

# order.created.v1 is told to nobody: confirmed, payment-failed or cancelled follows within seconds.
ROUTES = (
    Route(type="order.confirmed.v1", channel=EMAIL, template="order_confirmed"),
    Route(type="order.payment-failed.v1", channel=EMAIL, template="payment_failed"),
    Route(type="order.cancelled.v1", channel=EMAIL, template="order_cancelled"),
    Route(type=_CHANGED, status="preparation", channel=PUSH, template="order_status", told_as="preparation"),
    Route(type=_CHANGED, status="ready", channel=EMAIL, template="order_ready"),
    # The push provider's word for ready (contract).
    Route(type=_CHANGED, status="ready", channel=PUSH, template="order_status", told_as="prepared"),
    Route(type=_CHANGED, status="delivered", channel=PUSH, template="order_status", told_as="delivered"),
    Route(type=_SHIPPED, channel=EMAIL, template="order_shipped"),
    Route(type=_SHIPPED, channel=PUSH, template="order_status", told_as="shipped"),
)


def routes_for(event_type: str, status: str, routes: Iterable[Route] = ROUTES) -> list[Route]:
    return [route for route in routes if route.type == event_type and route.status in {None, status}]


def at_path(data: Any, path: str) -> Any:
    """What stands at a dotted path of nested mappings."""
    return reduce(lambda value, key: value[key], path.split("."), data)
