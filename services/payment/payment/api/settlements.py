"""The daily settlement report."""

from datetime import date
from typing import Annotated, Literal

from fastapi import Query, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, file_response, refused
from payment.services import services
from payment.settlement import as_csv, as_xlsx
from payment.store import PaymentStore

_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_TYPES = {"csv": "text/csv; charset=utf-8", "xlsx": _XLSX}


router = Routes(prefix="/api/v1", tags=["settlements"])


@router.get(
    "/settlements/{day}",
    response_class=StreamingResponse,
    responses={
        200: file_response(["text/csv", _XLSX], description="The report"),
        **refused({422: "invalid-request", 503: "database-unavailable"}),
    },
)
async def get_settlement(
    request: Request,
    day: Annotated[date, Field(lt=date.max)],  # the day after it must be one too
    kind: Annotated[Literal["csv", "xlsx"], Query(alias="format")] = "csv",
) -> StreamingResponse:
    """Every charge captured and refund given on that day (UTC), by time, as the providers' ledgers have them."""
    entries = PaymentStore(services(request).charges, caller_of(request).tenant).settled_on(day)
    written = as_csv(entries) if kind == "csv" else as_xlsx(entries)
    name = f'attachment; filename="settlement-{day.isoformat()}.{kind}"'
    return StreamingResponse(written, media_type=_TYPES[kind], headers={"Content-Disposition": name})
