"""The saga as a Dapr Workflow: its name and its instances' ids."""

import hashlib

from order.saga import OrderRef

WORKFLOW = "fulfil_order"


def instance_id(ref: OrderRef) -> str:
    """At most 64 characters and no colon, as Dapr wants; not guessable across tenants' ids."""
    return f"{hashlib.sha256(ref.tenant.encode()).hexdigest()[:12]}-{ref.id}"
