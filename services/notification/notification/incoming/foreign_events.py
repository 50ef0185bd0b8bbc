"""Events of other teams whose fields we know; the source of their schemas in contracts/events. A route for one that
names a field which it has not is refused when it is written, not when the event is delivered."""

import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from pydantic import ConfigDict

from chassis.wire import Wire
from notification.incoming.routing_table import EventRoute

_EXAMPLE: dict[str, Any] = {
    "eventId": "0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0b01",
    "eventTimestamp": "2026-01-31T09:30:00Z",
    "applicationId": "LA-2026-0042",
    "customerId": "c-1",
    "requestedAmount": 250000,
    "productType": "Personal Loan",
    "branchId": "branch-7",
    "customerName": "Ada",
    "customerPhone": "+254711000001",
    "customerEmail": "ada@example.com",
}


class ForeignEvent(Wire):
    """As its team tells it; more fields may come."""

    topic: ClassVar[str]
    type: ClassVar[str]


class LoanApplicationCreated(ForeignEvent):
    """Somebody has applied for a loan, at a branch."""

    topic: ClassVar[str] = "loan-origination"
    type: ClassVar[str] = "LoanApplicationCreated"
    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    event_id: str
    event_timestamp: datetime
    application_id: str
    customer_id: str
    requested_amount: Decimal
    product_type: str
    branch_id: str | int
    customer_name: str
    customer_phone: str
    customer_email: str


EVENTS = (LoanApplicationCreated,)
_FIELDS = {(event.topic, event.type): {field.alias for field in event.model_fields.values()} for event in EVENTS}


def misspelt(route: EventRoute) -> list[tuple[str, str]]:
    """Where in the route, as a pointer, and the path that leads to no field of its event."""
    known = _FIELDS.get((route.topic, route.type))
    return [] if known is None else [(at, path) for at, path in _paths(route) if path.partition(".")[0] not in known]


def _paths(route: EventRoute) -> Iterator[tuple[str, str]]:
    ids = route.model_dump(by_alias=True, include={"subject_id", "owner_id", "correlation_id"}, exclude_none=True)
    yield from ((f"/{name}", path) for name, path in ids.items())
    if route.contact is not None:
        contact = route.contact.model_dump(by_alias=True, exclude={"trusted"}, exclude_none=True)
        yield from ((f"/contact/{name}", path) for name, path in contact.items())
    for number, message in enumerate(route.messages):
        yield from ((f"/messages/{number}/when/{path}", path) for path in message.when)
        yield from ((f"/messages/{number}/group", path) for path in re.findall(r"\{([^}]+)\}", message.group or ""))
