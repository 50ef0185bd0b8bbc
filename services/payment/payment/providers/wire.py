"""What every provider's answer through the sidecar means before its body is read."""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from chassis.sidecar import Answer, Sidecar, SidecarDown, Verdict
from chassis.texts import one_line
from payment.domain import Absent, Approved, Charge, Declined, Outcome, Refused, Unknown

_REFERENCE = re.compile(r"[\x21-\x7e]{1,128}")  # as long as its column, and fit for a path


def approved(reference: str) -> Outcome:
    """By the provider's reference. One that can't be kept, or asked for again, is no answer."""
    if _REFERENCE.fullmatch(reference) is None:
        return Unknown(reason="unreadable answer")
    return Approved(transaction_id=reference)


def declined(reason: str) -> Declined:
    return Declined(reason=one_line(reason)[:255] or "declined")


def refunds_path(path: str, of: Charge) -> str:
    return f"{path}/{quote(of.transaction_id or '', safe='')}/refunds"


async def post(
    sidecar: Sidecar, endpoint: str, path: str, *, body: Any, headers: Mapping[str, str], read: Callable[[Any], Outcome]
) -> Outcome:
    """Post once, the sidecar's declared retries included. `read` turns a 2xx body into an outcome."""
    try:
        answer = await sidecar.invoke(endpoint, path, body, headers=headers)
    except SidecarDown:
        return Unknown(reason="no answer")
    if answer.verdict is Verdict.REFUSED:
        return Refused(reason=f"refused by the provider ({answer.status})")
    return _answered(answer, read)


async def look_up(
    sidecar: Sidecar,
    endpoint: str,
    path: str,
    key: str,
    read: Callable[[Any], Outcome],
    *,
    headers: Mapping[str, str] | None = None,
) -> Outcome | Absent:
    """Ask by key. Only the provider's own 404 is Absent."""
    try:
        answer = await sidecar.invoke(endpoint, f"{path}?key={quote(key, safe='')}", verb="GET", headers=headers)
    except SidecarDown:
        return Unknown(reason="no answer")
    if answer.status == 404 and answer.verdict is Verdict.REFUSED:
        return Absent()
    return _answered(answer, read)


def _answered(answer: Answer, read: Callable[[Any], Outcome]) -> Outcome:
    """Not even "breaker open" proves of money that nothing was sent: it may have opened after an attempt."""
    if answer.from_sidecar:
        return Unknown(reason="the sidecar could not reach the provider")
    if answer.verdict is Verdict.ANSWERED:
        return read(answer.data)
    return Unknown(reason=f"the provider answered {answer.status}")
