"""What the back office needs of others, through the sidecar."""

from typing import Annotated

from pydantic import StringConstraints, ValidationError

from backoffice.domain import SOURCES, ExportKind
from chassis.export_pages import ExportFilters, ExportPage
from chassis.sidecar import Sidecar, Verdict

Filters = ExportFilters[Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,32}$")]]


class RowsNotRead(Exception):
    """No page came, or none that can be understood; asking again may bring it."""


class Rows:
    """Rows of the services that have them; `limit` of a page."""

    def __init__(self, sidecar: Sidecar, *, limit: int) -> None:
        self._sidecar = sidecar
        self._limit = limit

    async def page(self, tenant: str, kind: ExportKind, filters: Filters, cursor: str | None) -> ExportPage:
        """Those behind the id `cursor`. Raises RowsNotRead."""
        wanted = {
            "kind": kind,
            "filters": filters.model_dump(mode="json", by_alias=True),
            "cursor": cursor,
            "limit": self._limit,
        }
        answer = await self._sidecar.invoke(
            SOURCES[kind].app_id, "export-page", wanted, headers={"X-Tenant-Id": tenant}
        )
        if answer.verdict is not Verdict.ANSWERED:
            raise RowsNotRead(f"{SOURCES[kind].app_id} answered {answer.status}")
        try:
            # A sidecar that dies in the middle of an answer gives a 200 without one.
            return ExportPage.model_validate(answer.data)
        except ValidationError:
            raise RowsNotRead(f"{SOURCES[kind].app_id} answered something else") from None
