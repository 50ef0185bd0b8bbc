"""Probes: `/health/live` (the process), `/health/ready` (may take traffic), `/health` (each dependency)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from chassis.edge.routes import Routes
from chassis.problems import Problem

_PROBE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """`probe` raises when the dependency is down. Without a required one a service is Unhealthy, else Degraded."""

    probe: Callable[[], Awaitable[None]]
    required: bool


router = Routes(tags=["health"])


@router.get("/health/live")
async def live() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/health/ready")
async def ready(request: Request) -> dict[str, Any]:
    return _answer(await _report({name: check for name, check in _checks(request).items() if check.required}))


@router.get("/health")
async def health(request: Request) -> dict[str, Any]:
    return _answer(await _report(_checks(request)))


def _checks(request: Request) -> Mapping[str, Check]:
    return request.app.state.checks


async def _report(checks: Mapping[str, Check]) -> dict[str, Any]:
    results = await asyncio.gather(*(_probe(check) for check in checks.values()))
    down = [check for check, result in zip(checks.values(), results, strict=True) if not result["up"]]
    status = "Unhealthy" if any(check.required for check in down) else "Degraded" if down else "Healthy"
    return {"status": status, "checks": dict(zip(checks, results, strict=True))}


async def _probe(check: Check) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            await check.probe()
        up = True
    except Exception:  # noqa: BLE001  whatever is wrong with it, it is down
        up = False
    return {"up": up, "latencyMs": round((time.perf_counter() - began) * 1000, 2)}


def _answer(report: dict[str, Any]) -> dict[str, Any]:
    if report["status"] == "Unhealthy":
        raise Problem(
            status=503,
            error_type="unhealthy",
            title="A dependency is down",
            members={**report, "status": 503, "health": report["status"]},
        )
    return report
