"""Traces and log lines by trace id, and who calls whom: of the tenant; for the operator's admin, of every tenant."""

from typing import Annotated

from fastapi import Path, Query, Request

from backoffice.services import services
from backoffice.traces import Edge, Trace, seen_by
from chassis.edge.auth import Role, caller_of
from chassis.edge.routes import Routes, refused
from chassis.wire import Wire

TraceId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
Minutes = Annotated[int, Query(ge=1, le=24 * 60)]


class MapView(Wire):
    """Of the last `minutes`."""

    minutes: int
    edges: list[Edge]


router = Routes(
    prefix="/api/v1/traces",
    tags=["traces"],
    responses=refused({422: "invalid-request", 503: "traces-unavailable"}),
)


@router.get("/map", responses=refused({404: "traces-not-configured, no-map"}))
async def get_service_map(request: Request, minutes: Minutes = 15) -> MapView:
    """Who called whom, and whose events were heard, as the spans of the last minutes have it."""
    tenant = _tenant(request)
    return MapView(minutes=minutes, edges=await services(request).traces.edges(minutes=minutes, tenant=tenant))


@router.get("/{trace_id}", responses=refused({404: "trace-not-found, traces-not-configured"}))
async def get_trace(request: Request, trace_id: TraceId) -> Trace:
    trace = await services(request).traces.by_trace(trace_id)
    tenant = _tenant(request)
    return seen_by(trace, tenant) if tenant else trace


def _tenant(request: Request) -> str:
    """Whose traces the caller may see; empty is everybody's."""
    caller, operator = caller_of(request), services(request).settings.operator_tenant
    return "" if operator and caller.tenant == operator and caller.may(Role.ADMIN) else caller.tenant
