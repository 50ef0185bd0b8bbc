"""Why an order is as it is: steps, money, messages, events and log lines in one column of time."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from cli import calls, log_lines, orders, screen
from cli.machine import LOGS

ORDER, PAYMENT, NOTIFICATION = "order-service", "payment-service", "notification-service"
_STYLES = {"step": "cyan", "money": "yellow", "message": "magenta", "event": "green", "log": "dim"}


@dataclass(frozen=True, kw_only=True)
class Moment:
    """`kind` is step, money, message, event or log."""

    at: datetime
    kind: str
    service: str
    what: str
    trace_id: str = ""


def why(order_id: str, *, logs: bool, as_json: bool) -> int:
    order = orders.the_one(order_id)
    told = sorted(story(order["id"], logs=logs), key=lambda moment: moment.at)
    if as_json:
        print(json.dumps({"order": order, "story": [asdict(moment) for moment in told]}, default=datetime.isoformat))
        return 0
    screen.rows([orders.summary(order)], as_json=False)
    print()
    begun = screen.moment(order["createdAt"])
    for moment in told:
        after = f"{(moment.at - begun).total_seconds():+9.3f} s"
        style = _STYLES[moment.kind]
        screen.line(
            (after, "dim"), (f"  {moment.kind:8}", style), (f"{moment.service:21}", "dim"), (moment.what, style)
        )
    return 0


def story(order_id: str, *, logs: bool) -> Iterator[Moment]:
    yield from steps(order_id)
    yield from money(order_id)
    yield from messages(order_id)
    events = calls.get(ORDER, f"/orders/{order_id}/events")["items"]
    yield from map(told, events)
    if logs:
        yield from said(order_id, {event["traceId"] for event in events})


def steps(order_id: str) -> Iterator[Moment]:
    for step in calls.get(ORDER, f"/orders/{order_id}/timeline"):
        took = "" if step["durationMs"] is None else f" in {step['durationMs']:.0f} ms"
        tries = f", {step['attempts']} attempts" if step["attempts"] > 1 else ""
        why_not = f": {step['error']}" if step["error"] else ""
        what = f"{step['step']} {step['status']}{took}{tries}{why_not}"
        yield Moment(at=screen.moment(step["startedAt"]), kind="step", service=ORDER, what=what)


def money(order_id: str) -> Iterator[Moment]:
    for payment in calls.get(PAYMENT, "/payments", orderId=order_id)["items"]:
        amount = f"{payment['amount']['amount']} {payment['amount']['currency']} by {payment['provider']}"
        for move in calls.get(PAYMENT, f"/payments/{payment['id']}/moves")["items"]:
            what = f"refund {move['refundId']}" if move["refundId"] else f"charge of {amount}"
            reason = f": {move['reason']}" if move["reason"] else ""
            yield Moment(
                at=screen.moment(move["at"]),
                kind="money",
                service=PAYMENT,
                what=f"{what} {move['fromStatus'] or 'new'} → {move['toStatus']} ({move['actor']}){reason}",
            )


def messages(order_id: str) -> Iterator[Moment]:
    for head in calls.get(NOTIFICATION, "/notifications", subjectId=order_id, pageSize=100)["items"]:
        what = f"{head['channel']} {head['template']}"
        happened = {"queued": head["createdAt"], "sent": head["sentAt"], "delivered": head["deliveredAt"]}
        for word, at in happened.items():
            if at is not None:
                subject = f": “{head['subject']}”" if word == "sent" and head["subject"] else ""
                yield Moment(at=screen.moment(at), kind="message", service=NOTIFICATION, what=f"{what} {word}{subject}")
        if head["error"]:
            yield last_try(head, what)


def last_try(head: dict[str, Any], what: str) -> Moment:
    detail = calls.get(NOTIFICATION, f"/notifications/{head['id']}")
    at = detail["tries"][-1]["endedAt"] if detail["tries"] else head["createdAt"]
    return Moment(
        at=screen.moment(at), kind="message", service=NOTIFICATION, what=f"{what} {head['status']}: {head['error']}"
    )


def told(event: dict[str, Any]) -> Moment:
    waits = "" if event["publishedAt"] else f", not published yet: {event['error'] or 'it waits'}"
    what = f"{event['type']} → {event['status']}{waits}"
    at, trace_id = screen.moment(event["createdAt"]), event["traceId"] or ""
    return Moment(at=at, kind="event", service=ORDER, what=what, trace_id=trace_id)


def said(order_id: str, traces: set[str]) -> Iterator[Moment]:
    """Log lines, and other services' events, of the order's traces and of all in which it is named; of this run and
    the one before."""
    lines = log_lines.in_order(log_lines.files(LOGS, older=True))
    traces = traces | {line.trace_id for line in lines if order_id in str(line.fields)}
    for line in lines:
        if line.trace_id in traces - {""}:
            event = line.fields.get("event") == "integration.event" and not line.words.startswith("call ")
            if event and line.name == ORDER:
                continue  # told above
            yield Moment(
                at=line.at,
                kind="event" if event else "log",
                service=line.name,
                what=line.words if event else f"{line.words} {line.facts(but='trace_id')}",
                trace_id=line.trace_id,
            )
