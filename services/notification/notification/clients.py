"""What notification needs of others: what they hold of a person."""

from typing import Any, cast

from chassis.problems import Unavailable
from chassis.sidecar import Sidecar, Verdict

# Payment holds nothing of a person: see docs/operations.md.
_HOLDERS = ("order-service", "backoffice-service", "datasource-service")
Kinds = dict[str, list[dict[str, Any]]]


class PersonHolders:
    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    async def held(self, tenant: str, person_id: str) -> dict[str, Kinds]:
        """By service. Raises Unavailable where one does not answer."""
        return {app: await self._of(app, tenant, person_id) for app in _HOLDERS}

    async def _of(self, app: str, tenant: str, person_id: str) -> Kinds:
        headers = {"X-Tenant-Id": tenant}
        answer = await self._sidecar.invoke(app, "person-data", {"personId": person_id}, headers=headers, private=True)
        kinds = cast("dict[str, Any]", answer.data).get("held") if isinstance(answer.data, dict) else None
        # A 200 that says nothing is a sidecar's whose app died.
        if answer.verdict is not Verdict.ANSWERED or not isinstance(kinds, dict):
            raise Unavailable(app)
        return cast("Kinds", kinds)
