"""What staff finds of one order: its events, and the trace that they belong to."""

from collections.abc import Callable
from typing import Any

import httpx

from stack.issuer import Issuer

TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_an_orders_events_are_found_with_their_traces(
    client: httpx.AsyncClient, wanted: Callable[..., dict[str, Any]], issuer: Issuer, behind: Callable[[str], None]
):
    traced = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    order = (await client.post("/api/v1/orders", json=wanted(), headers=traced)).json()
    other = (await client.post("/api/v1/orders", json=wanted())).json()
    behind("UPDATE outbox SET traceparent = '' WHERE type = 'order.confirmed.v1'")  # told outside of any trace
    path = f"/api/v1/orders/{order['id']}/events"

    told = (await client.get(path)).json()["items"]

    assert [(event["type"], event["status"], event["version"], event["traceId"]) for event in told] == [
        ("order.created.v1", "pending_payment", 1, TRACE),
        ("order.confirmed.v1", "confirmed", 2, None),
    ]
    assert all(event["attempts"] == 0 and event["error"] is None for event in told)
    assert (await client.get(f"/api/v1/sagas/{order['id']}")).json()["traceId"] == TRACE
    assert (await client.get(f"/api/v1/sagas/{other['id']}")).json()["traceId"] != TRACE

    refusals = [
        (path.replace(order["id"], "none"), issuer.bearer("staff"), 404, "order-not-found"),
        (path, issuer.bearer("staff", tenant="other"), 403, "different-tenant"),
        (path, issuer.bearer("user", sub="s-1"), 403, "role-missing"),
    ]
    for asked, headers, status, error_type in refusals:
        answer = await client.get(asked, headers=headers)
        assert (answer.status_code, answer.json()["errorType"]) == (status, error_type)
