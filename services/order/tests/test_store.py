"""Every move of an order on a real database: conditional, idempotent, its stock and event in the same transaction."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.event import listen
from sqlalchemy.exc import IntegrityError

from chassis.db import Database
from chassis.ids import new_id, now
from chassis.saga import Run
from chassis.story import Phase, Step
from order.domain import IllegalMove, OrderNotFound, OrderOfOtherTenant, OutOfStock, PaymentStatus, Status
from order.requests import OrderRequest
from order.saga import Approved, Declined, OrderRef
from order.saga_store import Stores
from order.system import SystemStore
from order.tables import orders

Placed = Callable[..., Awaitable[OrderRef]]
Rows = Callable[[str], list[Any]]
Left = Callable[[str], int | None]
Announced = Callable[[str], list[tuple[str, int]]]
PAID = Approved(payment_id="p-1", transaction_id="tx-1")
MINUTE = timedelta(seconds=60)
REFUSED = Declined(status="declined", payment_id="p-1")


def none() -> list[Any]:
    return []


async def change(db: Database, ref: OrderRef, **values: Any) -> None:
    await db.write(lambda conn: conn.execute(sa.update(orders).where(orders.c.id == ref.id).values(values)))


def the_order(rows: Rows) -> Any:
    [row] = rows("SELECT * FROM orders")
    return row


async def test_placing_takes_the_stock_announces_and_leases(
    placed: Placed, rows: Rows, left: Left, announced: Announced
):
    ref = await placed("latte", 2)

    row = the_order(rows)
    assert (row.status, row.payment_status, row.version) == ("pending_payment", "processing", 1)
    assert row.lease_until is not None
    assert row.due_at is None
    assert left("latte") == 3
    assert announced(ref.id) == [("created", 1)]
    assert [line.step for line in rows("SELECT * FROM timeline")] == ["place"]


@pytest.mark.parametrize("end", ["confirmed", "payment_failed", "cancelled"])
async def test_whatever_is_announced_says_the_name_of_its_tenant(
    stores: Stores, wanted: Callable[..., dict[str, Any]], rows: Rows, end: str
):
    store, ref = stores.of("default"), OrderRef(tenant="default", id=new_id())
    await store.place(ref.id, OrderRequest.model_validate(wanted()), owner="u-1", tenant_name="Kötter ☕")
    match end:
        case "confirmed":
            await store.confirm(ref, PAID, none)
            await store.advance(ref.id, Status.PREPARATION)
        case "payment_failed":
            await store.give_back(ref, REFUSED, none)
        case _:
            await store.cancel(ref.id)

    assert {row.tenant_name for row in rows("SELECT * FROM outbox")} == {"Kötter ☕"}


async def test_more_than_is_left_is_refused_and_nothing_of_it_is_kept(placed: Placed, rows: Rows, left: Left):
    with pytest.raises(OutOfStock) as refused:
        await placed(items=[{"sku": "latte", "quantity": 2}, {"sku": "tea", "quantity": 2}])

    assert refused.value.members == {"sku": "tea"}
    assert left("latte") in {None, 5}
    assert [rows(f"SELECT * FROM {name}") for name in ("orders", "outbox", "timeline")] == [[], [], []]  # noqa: S608


async def test_of_many_at_once_for_the_last_item_one_gets_it(placed: Placed, left: Left):
    results = await asyncio.gather(*(placed("tea", 1) for _ in range(8)), return_exceptions=True)

    assert sum(isinstance(one, OrderRef) for one in results) == 1
    assert sum(isinstance(one, OutOfStock) for one in results) == 7
    assert left("tea") == 0


async def test_an_id_is_placed_once(stores: Stores, wanted: Callable[..., dict[str, Any]], left: Left):
    request = OrderRequest.model_validate(wanted())
    await stores.of("default").place("o-1", request, owner="anonymous")

    with pytest.raises(IntegrityError):
        await stores.of("default").place("o-1", request, owner="anonymous")

    assert left("latte") == 4


async def test_confirming_twice_confirms_once(stores: Stores, placed: Placed, rows: Rows, announced: Announced):
    ref = await placed()
    store = stores.of("default")

    assert await store.confirm(ref, PAID, none)
    assert await store.confirm(ref, PAID, none)

    row = the_order(rows)
    assert (row.status, row.payment_status, row.transaction_id) == ("confirmed", "succeeded", "tx-1")
    assert (row.lease_until, row.due_at) == (None, None)
    assert announced(ref.id) == [("created", 1), ("confirmed", 2)]


async def test_confirming_later_than_the_kitchen_began_is_still_confirmed(stores: Stores, placed: Placed):
    ref = await placed()
    store = stores.of("default")
    await store.confirm(ref, PAID, none)
    await store.advance(ref.id, Status.PREPARATION)

    assert await store.confirm(ref, PAID, none)


@pytest.mark.parametrize("over", ["cancel", "give_back", "give_up"])
async def test_confirming_what_is_over_is_too_late(stores: Stores, placed: Placed, over: str, announced: Announced):
    ref = await placed()
    store = stores.of("default")
    match over:
        case "cancel":
            await store.cancel(ref.id)
        case "give_back":
            await store.give_back(ref, REFUSED, none)
        case _:
            await store.give_up(ref)

    assert not await store.confirm(ref, PAID, none)
    assert len(announced(ref.id)) == 2


async def test_a_declined_card_releases_the_stock_once(
    stores: Stores, placed: Placed, rows: Rows, left: Left, announced: Announced
):
    ref = await placed("latte", 3)
    store = stores.of("default")

    await store.give_back(ref, REFUSED, none)
    await store.give_back(ref, REFUSED, none)

    row = the_order(rows)
    assert (row.status, row.payment_status) == ("payment_failed", "declined")
    assert (row.lease_until, row.due_at) == (None, None)
    assert left("latte") == 5
    assert announced(ref.id) == [("created", 1), ("payment-failed", 2)]


async def test_a_decline_after_a_cancel_only_settles_it(
    stores: Stores, placed: Placed, rows: Rows, left: Left, announced: Announced
):
    ref = await placed("latte", 3)
    store = stores.of("default")
    await store.cancel(ref.id)

    await store.give_back(ref, REFUSED, none)

    row = the_order(rows)
    assert (row.status, row.payment_status, row.due_at) == ("cancelled", "declined", None)
    assert left("latte") == 5
    assert announced(ref.id) == [("created", 1), ("cancelled", 2)]


async def test_a_decline_never_undoes_a_confirmed_order(stores: Stores, placed: Placed, rows: Rows, left: Left):
    ref = await placed()
    store = stores.of("default")
    await store.confirm(ref, PAID, none)

    await store.give_back(ref, REFUSED, none)

    row = the_order(rows)
    assert (row.status, row.payment_status) == ("confirmed", "succeeded")
    assert left("latte") == 4


async def test_giving_up_returns_the_stock_once_and_stays_due_to_be_settled(
    stores: Stores, placed: Placed, rows: Rows, left: Left, announced: Announced
):
    ref = await placed("latte", 3)
    store = stores.of("default")

    await store.give_up(ref)
    await store.give_up(ref)

    row = the_order(rows)
    assert (row.status, row.payment_status, row.lease_until) == ("payment_failed", "processing", None)
    assert row.due_at is not None
    assert left("latte") == 5
    assert announced(ref.id) == [("created", 1), ("payment-failed", 2)]
    assert (await store.to_charge(ref.id)).settle_only


async def test_a_cancel_before_the_outcome_is_due_at_once_and_settles_only(
    stores: Stores, placed: Placed, rows: Rows, left: Left, announced: Announced
):
    ref = await placed("latte", 3)
    store = stores.of("default")

    first = await store.cancel(ref.id)
    again = await store.cancel(ref.id)

    row = the_order(rows)
    assert first == again
    assert (row.status, row.payment_status, row.lease_until) == ("cancelled", "processing", None)
    assert row.due_at is not None
    assert left("latte") == 5
    assert announced(ref.id) == [("created", 1), ("cancelled", 2)]
    wanted = await store.to_charge(ref.id)
    assert (wanted.settle_only, wanted.card_token) == (True, None)


async def test_a_cancel_after_the_charge_owes_a_refund_in_the_same_transaction(
    stores: Stores, placed: Placed, rows: Rows
):
    ref = await placed()
    store = stores.of("default")
    await store.confirm(ref, PAID, none)

    cancelled = await store.cancel(ref.id)

    assert cancelled.payment.status is PaymentStatus.REFUND_PENDING
    assert the_order(rows).due_at is not None


async def test_a_refund_is_recorded_once_and_settles_the_order(
    stores: Stores, placed: Placed, rows: Rows, announced: Announced
):
    ref = await placed()
    store = stores.of("default")
    await store.cancel(ref.id)

    assert await store.owe_refund(ref, PAID)
    assert the_order(rows).due_at is not None
    await store.refunded(ref, none)
    assert not await store.owe_refund(ref, PAID)

    row = the_order(rows)
    assert (row.status, row.payment_status, row.payment_id, row.due_at) == ("cancelled", "refunded", "p-1", None)
    assert announced(ref.id) == [("created", 1), ("cancelled", 2)]


async def test_refunded_without_a_debt_changes_nothing(stores: Stores, placed: Placed, rows: Rows):
    ref = await placed()
    store = stores.of("default")
    await store.confirm(ref, PAID, none)

    await store.refunded(ref, none)

    assert the_order(rows).payment_status == "succeeded"


async def test_cancelling_after_preparation_has_begun_is_refused(stores: Stores, placed: Placed, left: Left):
    ref = await placed()
    store = stores.of("default")
    await store.confirm(ref, PAID, none)
    await store.advance(ref.id, Status.PREPARATION)

    with pytest.raises(IllegalMove) as refused:
        await store.cancel(ref.id)

    assert refused.value.members == {"current": "preparation"}
    assert left("latte") == 4


async def test_an_order_is_advanced_step_by_step_and_each_step_once(
    stores: Stores, placed: Placed, announced: Announced
):
    ref = await placed()
    store = stores.of("default")
    await store.confirm(ref, PAID, none)

    for target in (Status.PREPARATION, Status.READY, Status.DELIVERED):
        first = await store.advance(ref.id, target)
        assert await store.advance(ref.id, target) == first

    assert announced(ref.id) == [("created", 1), ("confirmed", 2)] + [("status-changed", v) for v in (3, 4, 5)]


async def test_a_delivery_leaves_by_shipping_alone(stores: Stores, placed: Placed, announced: Announced):
    ref = await placed(location="delivery")
    store = stores.of("default")
    await store.confirm(ref, PAID, none)
    await store.advance(ref.id, Status.PREPARATION)
    await store.advance(ref.id, Status.READY)

    with pytest.raises(IllegalMove):
        await store.advance(ref.id, Status.DELIVERED)
    shipped = await store.advance(ref.id, Status.SHIPPED, tracking_number="1Z")
    delivered = await store.advance(ref.id, Status.DELIVERED)

    assert shipped.tracking_number == delivered.tracking_number == "1Z"
    assert [kind for kind, _ in announced(ref.id)][-2:] == ["shipped", "status-changed"]


async def test_what_is_taken_over_the_counter_is_not_shipped(stores: Stores, placed: Placed):
    ref = await placed(location="take-away")
    store = stores.of("default")
    await store.confirm(ref, PAID, none)
    await store.advance(ref.id, Status.PREPARATION)
    await store.advance(ref.id, Status.READY)

    with pytest.raises(IllegalMove):
        await store.advance(ref.id, Status.SHIPPED, tracking_number="1Z")


async def test_the_card_token_is_sealed_at_rest_and_read_only_to_charge(stores: Stores, placed: Placed, rows: Rows):
    ref = await placed(token="tok_secret_one")

    assert "tok_secret_one" not in str(rows("SELECT * FROM orders") + rows("SELECT * FROM outbox"))
    assert (await stores.of("default").to_charge(ref.id)).card_token == "tok_secret_one"


@pytest.mark.parametrize("end", ["confirm", "give_back", "give_up", "cancel"])
async def test_the_card_token_is_erased_with_every_end_of_the_charge(
    stores: Stores, placed: Placed, rows: Rows, end: str
):
    ref = await placed()
    store = stores.of("default")
    assert the_order(rows).card_token
    match end:
        case "confirm":
            await store.confirm(ref, PAID, none)
        case "give_back":
            await store.give_back(ref, REFUSED, none)
        case "give_up":
            await store.give_up(ref)
        case _:
            await store.cancel(ref.id)

    assert the_order(rows).card_token is None


async def test_handing_over_swaps_the_lease_for_a_due_time(stores: Stores, placed: Placed, db: Database):
    ref = await placed()

    assert await stores.postpone(ref, MINUTE)

    row = await db.read(lambda conn: conn.execute(sa.select(orders)).one())
    assert row.lease_until is None
    assert timedelta(0) < row.due_at - now() <= MINUTE


async def test_a_settled_order_is_not_handed_over(stores: Stores, placed: Placed, rows: Rows):
    ref = await placed()
    store = stores.of("default")
    await store.confirm(ref, PAID, none)

    assert not await store.postpone(ref.id, timedelta(0))

    assert the_order(rows).due_at is None


async def test_the_processor_finds_dead_leases_and_due_orders_whatever_their_status(db: Database, placed: Placed):
    past, future = now() - timedelta(seconds=1), now() + timedelta(seconds=60)
    dead, alive, owed, waiting = [await placed() for _ in range(4)]
    await change(db, dead, lease_until=past)
    await change(db, alive, lease_until=future)
    await change(db, owed, status=Status.CANCELLED, lease_until=None, due_at=past)
    await change(db, waiting, lease_until=None, due_at=future)

    found = await SystemStore(db).due(10)

    assert {ref.id for ref in found} == {dead.id, owed.id}
    assert len(await SystemStore(db).due(1)) == 1


async def test_another_tenant_sees_and_moves_nothing(stores: Stores, placed: Placed, rows: Rows):
    ref = await placed()
    theirs = stores.of("another")

    assert await theirs.page(status=None, customer_id=None, before=None, limit=10) == []
    for attempt in (
        theirs.find(ref.id),
        theirs.get(ref.id),
        theirs.timeline(ref.id),
        theirs.cancel(ref.id),
        theirs.advance(ref.id, Status.PREPARATION),
    ):
        with pytest.raises(OrderOfOtherTenant):
            await attempt
    with pytest.raises(OrderNotFound):
        await theirs.get("0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0a01")
    assert not await theirs.postpone(ref.id, timedelta(0))
    assert the_order(rows).status == "pending_payment"


async def test_an_order_that_is_placed_while_it_is_looked_for_was_not_there_yet(
    stores: Stores, db: Database, wanted: Callable[..., dict[str, Any]]
):
    order_id = "0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0a01"
    request = OrderRequest.model_validate(wanted())
    loop = asyncio.get_running_loop()
    placing: list[str] = []

    def place_after_the_first_look(*_told: object) -> None:
        if not placing:  # the reader's thread waits here until the order is committed
            placing.append(order_id)
            place = stores.of("default").place(order_id, request, owner="anonymous")
            asyncio.run_coroutine_threadsafe(place, loop).result(timeout=10)

    def look(conn: sa.Connection) -> None:
        listen(conn, "after_cursor_execute", place_after_the_first_look)
        stores.of("default")._select(conn, order_id)

    with pytest.raises(OrderNotFound):
        await db.read(look)
    assert placing
    assert (await stores.of("default").get(order_id)).id == order_id


async def test_a_step_is_on_the_timeline_with_the_transaction_that_completes_it(
    stores: Stores, placed: Placed, rows: Rows
):
    ref = await placed()
    drive = Run(reference=ref)
    drive.begin(Step(title="confirm", phase=Phase.THEN))

    await stores.of("default").confirm(ref, PAID, drive.drain)

    lines = {line.step: line for line in rows("SELECT * FROM timeline")}
    assert (lines["confirm"].status, lines["confirm"].attempts) == ("completed", 1)
