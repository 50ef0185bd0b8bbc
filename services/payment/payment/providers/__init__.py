"""Payment providers: one file each, and one line here."""

from collections.abc import Callable, Mapping
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


# By the name that a row keeps. Made of the sidecar and the service's own secrets, which are filled at start.
PROVIDERS: Mapping[str, Callable[[Sidecar, Mapping[str, str]], Provider]] = {
    "a": lambda sidecar, _secrets: ProviderA(sidecar),
    "b": ProviderB,
}


def providers(sidecar: Sidecar, secrets: Mapping[str, str]) -> dict[str, Provider]:
    return {name: make(sidecar, secrets) for name, make in PROVIDERS.items()}
