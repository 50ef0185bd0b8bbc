"""Orders: the newest, and what becomes of them while one watches."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from cli import calls, screen

ORDER = "order-service"
_LATER = 1.0  # seconds until a stream that ended is asked for again
_SILENCE = 60.0  # the service says something every 15 s


def newest(*, status: str | None, most: int, as_json: bool) -> int:
    found = list(calls.items(ORDER, "/orders", most=most, status=status))
    if as_json:
        print(json.dumps(found))
        return 0
    screen.rows([summary(order) for order in found], as_json=False, nothing="No order is there.")
    return 0


def summary(order: dict[str, Any]) -> dict[str, Any]:
    return {
        "order": order["id"],
        "status": order["status"],
        "payment": order["payment"]["status"],
        "total": f"{order['total']['amount']} {order['total']['currency']}",
        "items": ", ".join(f"{item['quantity']} {item['sku']}" for item in order["items"]),
        "told": (order["notified"] or {}).get("status", ""),
        "at": screen.moment(order["createdAt"]),
    }


def the_one(order_id: str) -> dict[str, Any]:
    """By its id, or the newest for `last`."""
    if order_id != "last":
        return calls.get(ORDER, f"/orders/{order_id}")
    found = list(calls.items(ORDER, "/orders", most=1))
    if not found:
        raise calls.LocalError("no order is there: `brewline order` places one")
    return found[0]


def watch(*, as_json: bool) -> int:
    """Until Ctrl-C. A line an event, from now on; a service that is away is waited for."""
    last_id = ""
    calls.bearer("staff")  # says at once where nothing runs
    while True:
        try:
            for event in stream(last_id):
                last_id = event["id"]
                show(event, as_json=as_json)
        except (httpx.TransportError, calls.Refused):
            calls.bearer.cache_clear()
        time.sleep(_LATER)


def show(event: dict[str, Any], *, as_json: bool) -> None:
    data = event["data"]
    if as_json:
        print(json.dumps(data), flush=True)
    else:
        status = str(data["status"])
        at = screen.local_time(screen.moment(data["at"]))
        screen.line((at, "dim"), "  ", data["orderId"], "  ", screen.styled(status))


def stream(last_id: str) -> Iterator[dict[str, Any]]:
    """Server-sent events of all orders; from after `last_id` on."""
    headers = calls.bearer("staff") | ({"Last-Event-ID": last_id} if last_id else {})
    timeout = httpx.Timeout(30, read=_SILENCE)
    with calls.client().stream(
        "GET", f"{calls.url(ORDER)}/api/v1/orders/stream", headers=headers, timeout=timeout
    ) as answer:
        if answer.is_error:
            answer.read()
            raise calls.Refused(ORDER, calls.problem_of(answer))
        yield from events(answer.iter_lines())


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """As the HTML standard has them; comments keep the connection alive."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        else:
            if "data" in fields:
                yield {"id": fields.get("id", ""), "event": fields["event"], "data": json.loads(fields["data"])}
            fields = {}
