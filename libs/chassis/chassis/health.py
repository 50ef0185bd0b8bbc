"""Probes: `/health/live` (the process), `/health/ready` (may take traffic), `/health` (each dependency)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import structlog
from fastapi import Request

from chassis.db import Database
from chassis.edge.auth import Role, caller_if_known
from chassis.edge.routes import Routes, refused
from chassis.problems import Problem
from chassis.sidecar import Sidecar
from chassis.telemetry import meter
from chassis.wire import Wire

log = structlog.get_logger()

_PROBE_SECONDS = 2.0
_PUBLISH_EVERY = 10.0
_TOPIC = "health-probes"  # that nobody hears
_KEY = "health"  # that nobody writes

_up = meter.create_gauge("health_check_up", description="1 while the dependency answers, by check: as last asked")


class HealthStatus(StrEnum):
    HEALTHY = "Healthy"
    DEGRADED = "Degraded"
    UNHEALTHY = "Unhealthy"


_DESCRIPTIONS = {
    HealthStatus.HEALTHY: "All systems operational",
    HealthStatus.DEGRADED: "Some systems degraded",
    HealthStatus.UNHEALTHY: "Health check failed",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """`probe` raises when the dependency is down. Without a required one a service is Unhealthy, else Degraded. What a
    probe found stands for `every` seconds."""

    probe: Callable[[], Awaitable[None]]
    required: bool
    every: float = 0.0


class CheckReport(Wire):
    """`status` is what this dependency alone makes of the service; `latencyMs` is its probe's."""

    status: HealthStatus
    latency_ms: float


class Report(Wire):
    """`description` and `checks`, by name, are for staff."""

    status: HealthStatus
    description: str | None = None
    checks: dict[str, CheckReport] | None = None


class Word(Wire):
    status: HealthStatus


class Alive(Wire):
    status: Literal["ok"] = "ok"


class Health:
    """What a service depends on, and how that is now."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._required = {name for name, check in checks.items() if check.required}
        self._probes = {name: _Probe(name, check) for name, check in checks.items()}

    async def report(self) -> Report:
        return await self._report(list(self._probes))

    async def ready(self) -> Report:
        """Of what nothing can be done without."""
        return await self._report([name for name in self._probes if name in self._required])

    async def _report(self, names: list[str]) -> Report:
        found = await asyncio.gather(*(self._probes[name].look() for name in names))
        words = {check.status for check in found}
        status = next(
            (word for word in (HealthStatus.UNHEALTHY, HealthStatus.DEGRADED) if word in words), HealthStatus.HEALTHY
        )
        checks = dict(zip(names, found, strict=True))
        return Report(status=status, description=_DESCRIPTIONS[status], checks=checks)


class _Probe:
    """One at a time: whoever asks meanwhile waits for the same one."""

    def __init__(self, name: str, check: Check) -> None:
        self._name = name
        self._check = check
        self._running: asyncio.Task[CheckReport] | None = None
        self._began = 0.0

    async def look(self) -> CheckReport:
        if self._running is None or (self._running.done() and time.monotonic() - self._began >= self._check.every):
            self._began = time.monotonic()
            self._running = asyncio.create_task(self._ask(), name=f"health.{self._name}")
        return await asyncio.shield(self._running)  # one who hangs up takes nobody else's answer along

    async def _ask(self) -> CheckReport:
        status = HealthStatus.HEALTHY
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await self._check.probe()
        except Exception as error:  # noqa: BLE001  whatever is wrong with it, it is down
            status = HealthStatus.UNHEALTHY if self._check.required else HealthStatus.DEGRADED
            log.warning("health.down", check=self._name, error=type(error).__name__)
        _up.set(int(status is HealthStatus.HEALTHY), {"check": self._name})
        return CheckReport(status=status, latency_ms=round((time.monotonic() - self._began) * 1000, 2))


def usual_checks(
    *, db: Database, sidecar: Sidecar, state_store: str, pubsub: str, without_sidecar: bool = False
) -> dict[str, Check]:
    """What every service asks. `without_sidecar`: it can do its work while there is none."""

    async def cache() -> None:
        await sidecar.get_state(state_store, _KEY)

    async def broker() -> None:
        await sidecar.probe_broker(pubsub, _TOPIC)

    async def alive() -> None:
        sidecar.require()

    return {
        "database": Check(probe=db.ping, required=True),
        "cache": Check(probe=cache, required=False),
        "broker": Check(probe=broker, required=False, every=_PUBLISH_EVERY),
        "sidecar": Check(probe=alive, required=not without_sidecar),
    }


router = Routes(tags=["health"])
_UNHEALTHY = refused({503: "unhealthy"})


@router.get("/health/live")
async def get_liveness() -> Alive:
    return Alive()


@router.get("/health/ready", responses=_UNHEALTHY)
async def get_readiness(request: Request) -> Word:
    """Whether it may take traffic: what nothing can be done without is there."""
    return Word(status=_unless_unhealthy(await _health(request).ready(), details=False).status)


@router.get("/health", responses=_UNHEALTHY, response_model_exclude_none=True)
async def get_health(request: Request) -> Report:
    """Each dependency, for staff; for everybody else one word of it all."""
    caller = caller_if_known(request)
    details = caller is not None and caller.may(Role.STAFF)
    report = _unless_unhealthy(await _health(request).report(), details=details)
    return report if details else Report(status=report.status)


def _health(request: Request) -> Health:
    return request.app.state.health


def _unless_unhealthy(report: Report, *, details: bool) -> Report:
    if report.status is not HealthStatus.UNHEALTHY:
        return report
    members = report.model_dump(mode="json", by_alias=True, include={"description", "checks"}) if details else {}
    raise Problem(
        status=503,
        error_type="unhealthy",
        title="A dependency is down",
        members={**members, "health": report.status},
    )
