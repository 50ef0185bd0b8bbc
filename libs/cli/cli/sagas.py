"""Sagas: the stories that order and notification tell step by step."""

import json
from typing import Any

from cli import calls, screen

_TOLD_BY = ("order-service", "notification-service")


def listed(*, status: str | None, most: int, as_json: bool) -> int:
    """Of both services, newest first."""
    found = [
        {"service": app_id, **saga}
        for app_id in _TOLD_BY
        for saga in calls.items(app_id, "/sagas", most=most, status=status_at(app_id, status))
    ]
    found = sorted(found, key=lambda saga: saga["startedAt"], reverse=True)[:most]
    if as_json:
        print(json.dumps(found))
    else:
        screen.rows([summary(saga) for saga in found], as_json=False, nothing="No sagas.")
    return 0


def status_at(app_id: str, status: str | None) -> str | None:
    """Notification's that wait for a person are `failed`, order's `compensation_failed`."""
    return "compensation_failed" if (app_id, status) == ("order-service", "failed") else status


def summary(saga: dict[str, Any]) -> dict[str, Any]:
    return {
        "saga": saga["id"],
        "service": saga["service"],
        "workflow": saga["workflow"],
        "status": saga["status"],
        "started": screen.moment(saga["startedAt"]),
    }


def retry(saga_id: str, *, as_json: bool) -> int:
    """The failed step of one of either service."""
    try:
        done = calls.call("POST", "order-service", f"/sagas/{saga_id}/retry")
    except calls.Refused as refused:
        if refused.problem.get("errorType") != "saga-not-found":
            raise
        done = calls.call("POST", "notification-service", f"/sagas/{saga_id}/retry")
    print(json.dumps(done) if as_json else f"{saga_id} is tried again: {done['status']}")
    return 0
