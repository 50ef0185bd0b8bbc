"""Facts that the data source announces; the source of contracts/events. A changed meaning is a new type."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict

from chassis.events import Event
from datasource.domain import ClientStatus


class CustomerChanged(Event):
    """A client is new, has changed or is there no more (`deleted`). `customerId` is the id at the source, and the
    recipient's; `phone` is E.164, empty where it is none."""

    topic: ClassVar[str] = "customers"
    type: ClassVar[str] = "customer.changed.v1"
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "version": 2,
                    "customerId": "C-000001",
                    "name": "Ada Lovelace",
                    "email": "ada@example.com",
                    "phone": "+12025550123",
                    "status": "Active",
                    "deleted": False,
                }
            ]
        }
    )

    customer_id: str
    name: str
    email: str
    phone: str
    status: ClientStatus
    deleted: bool = False


EVENTS: tuple[type[Event], ...] = (CustomerChanged,)


def customer_changed(client: Mapping[str, Any], *, version: int, deleted: bool = False) -> CustomerChanged:
    """Of a row of `clients`."""
    return CustomerChanged(
        version=version,
        customer_id=client["external_id"],
        name=client["name"],
        email=client["email"],
        phone=client["phone_e164"],
        status=client["status"],
        deleted=deleted,
    )
