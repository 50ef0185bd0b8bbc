"""`GET /api/v1/ops`: what only a process can tell of itself and of its own sidecar, for the console's page "Now".

Each part is null where whoever knows it doesn't answer: this page is looked at when something is broken.
"""

import asyncio
import re
import socket
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from importlib import metadata

import aiohttp
from fastapi import Request

from chassis.db import DATABASE_DOWN
from chassis.edge.routes import Routes
from chassis.events import Handled
from chassis.ids import now
from chassis.outbox import Outbox
from chassis.settings import ServiceSettings
from chassis.sidecar import Sidecar, SidecarDown
from chassis.wire import Wire

_SECONDS = 2.0  # that the database, and each of the sidecar's ports, have to answer
_VERSION = metadata.version("chassis")  # the release's: everything is released together

# Dapr has a gauge for each state that a breaker may be in: 1 of the one it is in, 0 of the others. It is set when the
# breaker is used: one that has opened says so until its next call, however long ago its time-out ended.
_BREAKER = re.compile(
    r'^dapr_resiliency_cb_state\{.*status="(closed|half-open|open)",target="(?:app_)?([^"]*)"\} 1$', re.MULTILINE
)


class BreakerState(StrEnum):
    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class BreakerView(Wire):
    """`state` as of its last call. `target` is an app's or endpoint's name."""

    target: str
    state: BreakerState


class ComponentView(Wire):
    name: str
    type: str
    version: str


class SidecarView(Wire):
    """`breakers` are those that were used since it started; null where its metrics can't be read."""

    version: str
    port: int
    components: list[ComponentView]
    breakers: list[BreakerView] | None


class AppView(Wire):
    """`instance` is the replica that has answered."""

    id: str
    version: str
    instance: str
    port: int
    started_at: datetime


class OutboxView(Wire):
    waiting: int
    oldest_seconds: float


class HandledView(Wire):
    """The event of a topic that was last handled here: when, and how old it was then. That age is the consumer's lag;
    null of an event that doesn't tell its time."""

    topic: str
    at: datetime
    age_seconds: float | None


class OpsView(Wire):
    """`outbox` is null while the database, `sidecar` while the sidecar does not answer."""

    app: AppView
    sidecar: SidecarView | None
    outbox: OutboxView | None
    handled: list[HandledView]


@dataclass(frozen=True, kw_only=True)
class Ops:
    """`handled` is what `chassis.events.receive` notes, by topic."""

    settings: ServiceSettings
    sidecar: Sidecar
    outbox: Outbox | None
    handled: dict[str, Handled] = field(default_factory=dict[str, Handled])
    started_at: datetime = field(default_factory=now)

    async def view(self) -> OpsView:
        sidecar, outbox = await asyncio.gather(self._sidecar(), self._outbox())
        app = AppView(
            id=self.sidecar.source,
            version=_VERSION,
            instance=socket.gethostname(),
            port=self.settings.app_port,
            started_at=self.started_at,
        )
        handled = [HandledView(topic=topic, **asdict(last)) for topic, last in sorted(self.handled.items())]
        return OpsView(app=app, sidecar=sidecar, outbox=outbox, handled=handled)

    async def _sidecar(self) -> SidecarView | None:
        try:
            async with asyncio.timeout(_SECONDS):
                told = await self.sidecar.metadata()
        except (SidecarDown, TimeoutError):
            return None
        components = [ComponentView.model_validate(component) for component in told.get("components", [])]
        return SidecarView(
            version=told.get("runtimeVersion", ""),
            port=self.settings.dapr_http_port,
            components=sorted(components, key=lambda component: component.name),
            breakers=await self._breakers(),
        )

    async def _breakers(self) -> list[BreakerView] | None:
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        url = f"http://127.0.0.1:{self.settings.dapr_metrics_port}/metrics"
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
                return breakers_in(await answer.text())
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def _outbox(self) -> OutboxView | None:
        if self.outbox is None:
            return None
        try:
            async with asyncio.timeout(_SECONDS):
                waiting, oldest = await self.outbox.waiting()
        except (*DATABASE_DOWN, TimeoutError):
            return None
        return OutboxView(waiting=waiting, oldest_seconds=oldest)


def breakers_in(metrics: str) -> list[BreakerView]:
    """Of a sidecar's metrics, by target."""
    found = {target: state for state, target in _BREAKER.findall(metrics)}
    return [BreakerView(target=target, state=BreakerState(state)) for target, state in sorted(found.items())]


router = Routes(tags=["health"])


@router.get("/api/v1/ops")
async def get_ops(request: Request) -> OpsView:
    """What this process knows of itself and of its sidecar."""
    return await request.app.state.ops.view()
