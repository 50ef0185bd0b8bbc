"""The routing table: which event is told to whom, by which channel and in which words."""

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field, StringConstraints

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.problems import FieldProblem, invalid
from chassis.wire import RequestBody, Wire, example
from notification.incoming.foreign_events import misspelt
from notification.incoming.routing_table import EventRoute, prefix
from notification.services import services
from notification.unit_of_work import UnitOfWork

Version = Annotated[int, Field(ge=0, lt=2**31 - 1, description="the one that was read; 0 for the shipped one")]
Topic = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9.-]{0,63}$")]
Type = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]


class RouteBody(
    RequestBody,
    json_schema_extra=example(
        route={
            "topic": "orders",
            "type": "order.praised.v1",
            "subjectId": "orderId",
            "ownerId": "ownerId",
            "contact": {"id": "customer.id", "name": "customer.name", "email": "customer.email"},
            "messages": [{"channel": "email", "category": "Account", "template": "welcome"}],
        },
        version=0,
    ),
):
    route: EventRoute
    version: Version


class RouteList(Wire):
    """Every event that is known to the tenant; `version` 0 is as it ships."""

    items: list[RouteBody]


router = Routes(
    prefix="/api/v1/routes",
    tags=["events"],
    responses=refused({409: "concurrency-conflict", 422: "invalid-request", 503: "database-unavailable"}),
)


@router.get("")
async def list_routes(request: Request) -> RouteList:
    """The tenant's own, and those that ship."""
    caller = caller_of(request)
    units = services(request).units
    known = await units.read(caller.tenant, lambda unit: unit.routes.all())
    return RouteList(items=[RouteBody(route=route, version=version) for route, version in known])


@router.put("")
async def put_route(request: Request, body: RouteBody) -> RouteBody:
    """An event's route as a whole; from the answer on it holds at every replica within a moment."""
    caller = caller_of(request)
    made = services(request)
    if wrong := misspelt(body.route):
        raise invalid([FieldProblem(pointer=f"/route{at}", detail=f"{path}: no such field") for at, path in wrong])

    def work(unit: UnitOfWork) -> int:
        version = unit.routes.put(body.route, body.version)
        made.cache.invalidate(unit.conn, prefix(unit.tenant), tenant=unit.tenant)
        return version

    version = await made.units.write(caller.tenant, work)
    made.cache.drop(prefix(caller.tenant))
    return RouteBody(route=body.route, version=version)


@router.delete("", status_code=204, response_class=Response)
async def delete_route(
    request: Request,
    topic: Annotated[Topic, Query()],
    event_type: Annotated[Type, Query(alias="type")],
    version: Annotated[int, Query(ge=1, lt=2**31)],
) -> Response:
    """Back to what ships."""
    caller = caller_of(request)
    made = services(request)

    def work(unit: UnitOfWork) -> None:
        unit.routes.drop(topic, event_type, version)
        made.cache.invalidate(unit.conn, prefix(unit.tenant), tenant=unit.tenant)

    await made.units.write(caller.tenant, work)
    made.cache.drop(prefix(caller.tenant))
    return Response(status_code=204)
