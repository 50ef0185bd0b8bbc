"""What a placed order is to whoever watches the business: one event, one figure of its value, and one log record."""

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import structlog
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from chassis.db import Database
from chassis.ids import now
from order.domain import Status
from order.saga import OrderRef
from order.tables import orders
from order.telemetry import figures

Points = Callable[[str], list[Any]]
Body = Callable[..., dict[str, Any]]
ORDERS = "/api/v1/orders"


@pytest.fixture(scope="module")
def exporter() -> InMemoryLogRecordExporter:
    """A process has but one provider, and keeps it."""
    kept = InMemoryLogRecordExporter()
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(kept))
    set_logger_provider(provider)
    return kept


@pytest.fixture
def told(exporter: InMemoryLogRecordExporter, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    exporter.clear()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:9")
    return lambda: [one.log_record for one in exporter.get_finished_logs()]


async def test_a_confirmed_order_is_one_event_with_its_value(
    client: httpx.AsyncClient, wanted: Body, told: Callable[[], list[Any]]
):
    placed = (await client.post(ORDERS, json=wanted())).json()

    [event] = told()
    assert event.event_name == "OrderPlaced"
    facts = dict(event.attributes)
    assert facts.pop("ProcessingTimeMs") > 0
    assert facts == {
        "CustomerId": placed["customer"]["id"],
        "OrderId": placed["id"],
        "OrderValue": float(placed["total"]["amount"]),
    }


async def test_a_declined_order_and_one_that_is_out_of_stock_are_events_with_their_reason(
    client: httpx.AsyncClient, wanted: Body, told: Callable[[], list[Any]]
):
    declined = await client.post(ORDERS, json=wanted(token="tok_declined"))
    sold_out = await client.post(ORDERS, json=wanted(quantity=50))

    assert (declined.status_code, sold_out.status_code) == (402, 409)
    events = told()
    assert [event.event_name for event in events] == ["OrderFailed", "OrderFailed"]
    assert [event.attributes["Error"] for event in events] == ["card_declined", "out-of-stock"]
    assert all(event.attributes["CustomerId"] and event.attributes["ProcessingTimeMs"] > 0 for event in events)


async def test_a_customer_id_that_is_an_address_is_blanked(
    client: httpx.AsyncClient, wanted: Body, told: Callable[[], list[Any]]
):
    body = wanted()
    body["customer"]["id"] = "ada@example.com"
    await client.post(ORDERS, json=body)

    [event] = told()
    assert event.attributes["CustomerId"] == "[redacted]"


async def test_one_log_record_has_the_order_and_how_long_its_creation_took(client: httpx.AsyncClient, wanted: Body):
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    with structlog.testing.capture_logs() as logs:
        placed = (await client.post(ORDERS, json=wanted())).json()

    [line] = [line for line in logs if line["event"] == "request"]
    assert line["order_id"] == placed["id"]
    assert line["duration_ms"] > 0


async def test_orders_are_counted_by_status_and_the_oldest_unsettled_one_has_an_age(
    placed: Callable[..., Awaitable[OrderRef]], db: Database, rows: Callable[[str], list[Any]], points: Points
):
    ref = await placed()
    await placed("tea")
    hour_ago = now() - timedelta(hours=1)
    await db.write(
        lambda conn: conn.execute(sa.update(orders).where(orders.c.id == ref.id).values(created_at=hour_ago))
    )
    await db.read(figures)

    by_status = {point.attributes["status"]: point.value for point in points("orders_by_status")}
    assert by_status == dict.fromkeys(Status, 0) | {"pending_payment": 2}
    assert points("orders_oldest_unsettled_seconds")[0].value == pytest.approx(3600, abs=60)
    scans = rows("EXPLAIN QUERY PLAN SELECT status, count(*) FROM orders GROUP BY status")
    assert "COVERING INDEX" in scans[0].detail
