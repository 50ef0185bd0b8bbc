"""What every provider's answer through the sidecar means before its body is read."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from chassis.sidecar import Answer, Sidecar, SidecarDown
from payment.domain import Absent, Outcome, Refused, Unknown

_NOT_FINAL = {408, 409, 425, 429}


async def post(
    sidecar: Sidecar, endpoint: str, path: str, *, body: Any, headers: Mapping[str, str], read: Callable[[Any], Outcome]
) -> Outcome:
    """Post once, the sidecar's declared retries included. `read` turns a 2xx body into an outcome."""
    try:
        answer = await sidecar.invoke(endpoint, path, body, headers=headers)
    except SidecarDown:
        return Unknown(reason="no answer")
    if answer.from_sidecar:
        return Unknown(reason="the sidecar could not reach the provider")
    if 400 <= answer.status < 500 and answer.status not in _NOT_FINAL:
        return Refused(reason=f"refused by the provider ({answer.status})")
    return read(answer.data) if answer.status < 300 else Unknown(reason=f"the provider answered {answer.status}")


async def look_up(
    sidecar: Sidecar, endpoint: str, path: str, key: str, read: Callable[[Any], Outcome]
) -> Outcome | Absent:
    """Ask by key. Only the provider's own 404 is Absent."""
    try:
        answer: Answer = await sidecar.invoke(endpoint, f"{path}?key={quote(key, safe='')}", verb="GET")
    except SidecarDown:
        return Unknown(reason="no answer")
    if answer.from_sidecar:
        return Unknown(reason="the sidecar could not reach the provider")
    if answer.status == 404:
        return Absent()
    return read(answer.data) if answer.status < 300 else Unknown(reason=f"the provider answered {answer.status}")
