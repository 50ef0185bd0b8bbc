"""Payment providers: one file each, and one line here."""

from collections.abc import Mapping
from typing import Protocol

from chassis.sidecar import Sidecar
from payment.domain import Absent, Charge, Outcome, Refund
from payment.providers.provider_a import ProviderA
from payment.providers.provider_b import ProviderB


class Provider(Protocol):
    """Everything asked of a provider; whatever is no definite answer is Unknown."""

    async def charge(self, charge: Charge) -> Outcome: ...

    async def look_up_charge(self, charge: Charge) -> Outcome | Absent: ...

    async def refund(self, refund: Refund, of: Charge) -> Outcome: ...

    async def look_up_refund(self, refund: Refund) -> Outcome | Absent: ...


def providers(sidecar: Sidecar, secrets: Mapping[str, str]) -> dict[str, Provider]:
    """By the name that a row keeps. `secrets` is the service's own, filled at start."""
    return {"a": ProviderA(sidecar), "b": ProviderB(sidecar, secrets)}
