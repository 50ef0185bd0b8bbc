"""Every move of a payment or refund: only those of the table, each on record once, each announced once."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from chassis.ids import new_id, now
from payment.domain import (
    MOVES,
    REFUND_MOVES,
    Approved,
    Declined,
    RefundExceedsCaptured,
    RefundStatus,
    Refused,
    Status,
)
from payment.tables import payments, refunds

CHARGE_OUTCOMES = {
    Status.SUCCEEDED: Approved(transaction_id="t-1"),
    Status.DECLINED: Declined(reason="no"),
    Status.FAILED: Refused(reason="no"),
}
REFUND_OUTCOMES = {RefundStatus.SUCCEEDED: Approved(transaction_id="r-1"), RefundStatus.FAILED: Refused(reason="no")}


async def put(till, table, row_id, **values):
    await till.parts.db.write(lambda conn: conn.execute(sa.update(table).where(table.c.id == row_id).values(values)))


@pytest.fixture
async def unknown(till, provider) -> str:
    """A charge whose outcome nobody knows."""
    provider.next_posts.append("down")
    provider.blind = True
    return (await till.pay()).payment_id


@pytest.mark.parametrize("before", Status)
@pytest.mark.parametrize("after", CHARGE_OUTCOMES)
async def test_a_charge_takes_an_outcome_only_where_the_table_has_the_move(till, unknown, before, after):
    charge = await till.parts.charges.attempts.get(unknown)
    await put(till, payments, unknown, status=before)

    settled = await till.parts.charges.settle(charge, CHARGE_OUTCOMES[after])

    allowed = after in MOVES[before]
    row = await till.charge_row()
    assert (settled is not None, row.status) == (allowed, after if allowed else before)
    assert row.version == (2 if allowed else 1)
    assert (len(await till.moves()), len(await till.events())) == (allowed, allowed)


@pytest.mark.parametrize("before", RefundStatus)
@pytest.mark.parametrize("after", REFUND_OUTCOMES)
async def test_a_refund_takes_an_outcome_only_where_the_table_has_the_move(till, provider, before, after):
    paid = (await till.pay()).payment_id
    provider.next_posts.append("down")
    provider.blind = True
    await till.give_back(paid, "4.00")
    row = await till.refund_row()
    refund = await till.parts.refunds.attempts.get(row.id)
    await put(till, refunds, row.id, status=before)
    moved = len(await till.moves())

    settled = await till.parts.refunds.settle(refund, REFUND_OUTCOMES[after])

    # From `failed` it is begun again, by whoever asks; no outcome does that.
    allowed = before is RefundStatus.PROCESSING and after in REFUND_MOVES[before]
    assert (settled is not None, (await till.refund_row()).status) == (allowed, after if allowed else before)
    if not allowed:
        assert len(await till.moves()) == moved
        assert (await till.charge_row()).refunded == 400


@pytest.mark.parametrize("before", Status)
async def test_only_what_was_captured_gives_back_and_lands_where_the_table_says(till, unknown, before):
    await put(till, payments, unknown, status=before, transaction_id="tx-o-1:charge")
    if not MOVES[before] & {Status.PARTIALLY_REFUNDED, Status.REFUNDED}:
        with pytest.raises(RefundExceedsCaptured):
            await till.give_back(unknown, "4.00")
        return

    assert (await till.give_back(unknown, "4.00")).status == "succeeded"
    assert (await till.charge_row()).status in MOVES[before]


@pytest.mark.parametrize(
    ("fate", "status", "event", "reason"),
    [
        ("well", "succeeded", "payment.captured.v1", None),
        ("decline", "declined", "payment.declined.v1", "insufficient_funds"),
        ("refuse", "failed", "payment.declined.v1", "refused by the provider (400)"),
    ],
)
async def test_a_final_charge_has_one_move_and_one_event(till, provider, fate, status, event, reason):  # noqa: PLR0917
    provider.next_posts.append(fate)
    before = now()
    paid = await till.pay(tenant="acme")
    for _ in range(3):
        await till.pay(tenant="acme")
        await till.make_due()
        await till.sweep()

    (move,) = await till.moves()
    reference = "tx-o-1:charge" if status == "succeeded" else None
    assert (move.tenant, move.payment_id, move.refund_id) == ("acme", paid.payment_id, None)
    assert (move.from_status, move.to_status, move.actor) == ("processing", status, "provider a")
    assert (move.reason, move.reference) == (reason, reference)
    assert before <= move.at <= now()
    ((row, data),) = await till.events()
    assert (row.type, row.topic, row.tenant, row.aggregate_id) == (event, "payments", "acme", paid.payment_id)
    assert (data["version"], data["paymentId"], data["orderId"]) == (2, paid.payment_id, "o-1")
    assert (data["amount"], data["provider"]) == ({"amount": "9.00", "currency": "USD"}, "a")
    assert (data.get("transactionId"), data.get("reason")) == (reference, reason)
    assert (await till.charge_row()).version == 2


async def test_settling_nothing_is_a_move_too_and_is_announced(till):
    settled = await till.settle()
    again = await till.settle()

    (move,) = await till.moves()
    ((row, data),) = await till.events()
    assert settled == again
    assert (move.from_status, move.to_status, move.actor) == ("processing", "failed", "order-service")
    assert (row.type, data["status"], data["reason"]) == ("payment.declined.v1", "failed", "never charged")
    assert data["version"] == (await till.charge_row()).version


async def test_each_part_given_back_moves_refund_and_payment_and_is_announced_once(till):
    paid = (await till.pay()).payment_id
    for key, amount in (("first", "4.00"), ("second", "3.00"), ("third", "2.00")):
        await till.give_back(paid, amount, key)
        await till.give_back(paid, amount, key)

    told = [data for row, data in await till.events() if row.type == "payment.refunded.v1"]
    assert [data["status"] for data in told] == ["partially_refunded", "partially_refunded", "refunded"]
    assert [data["refunded"]["amount"] for data in told] == ["4.00", "3.00", "2.00"]
    assert [data["version"] for data in told] == [3, 4, 5]
    assert {row.aggregate_id for row, _ in await till.events()} == {paid}
    of_refunds = [move for move in await till.moves() if move.refund_id is not None]
    of_payment = [move for move in await till.moves() if move.refund_id is None]
    assert [move.reference for move in of_refunds] == ["tx-first", "tx-second", "tx-third"]
    assert [(move.from_status, move.to_status) for move in of_payment] == [
        ("processing", "succeeded"),
        ("succeeded", "partially_refunded"),
        ("partially_refunded", "partially_refunded"),
        ("partially_refunded", "refunded"),
    ]


async def test_a_refund_that_failed_and_is_begun_again_says_so(till, provider):
    paid = (await till.pay()).payment_id
    provider.next_posts.append("refuse")
    await till.give_back(paid, "9.00")
    await till.give_back(paid, "9.00")

    moves = [(move.from_status, move.to_status) for move in await till.moves() if move.refund_id is not None]
    assert moves == [("processing", "failed"), ("failed", "processing"), ("processing", "succeeded")]
    assert all(after in REFUND_MOVES[RefundStatus(before)] for before, after in moves)


async def test_what_is_not_announced_did_not_happen(till, unknown, monkeypatch):
    """Status, move and event are one transaction: when the event can't be written, nothing is."""
    charge = await till.parts.charges.attempts.get(unknown)
    outbox = till.parts.outbox

    class Full(Exception):
        pass

    def full(*_, **__):
        raise Full

    monkeypatch.setattr(outbox, "add", full)
    with pytest.raises(Full):
        await till.parts.charges.settle(charge, Approved(transaction_id="t"))

    assert (await till.charge_row()).status == "processing"
    assert await till.moves() == await till.events() == []


async def test_an_outcome_that_comes_too_late_is_harmless_only_where_it_says_what_is_booked(till, unknown, capture):
    charges = till.parts.charges
    charge = await charges.attempts.get(unknown)
    await charges.settle(charge, Refused(reason="never processed"))
    with capture() as logs:
        assert await charges.settle(charge, Refused(reason="again")) is None
    assert not [line for line in logs if line["log_level"] == "error"]
    with capture() as logs:
        assert await charges.settle(charge, Approved(transaction_id="t")) is None

    (alert,) = [line for line in logs if line["log_level"] == "error"]
    assert (alert["event"], alert["payment_id"], alert["status"]) == ("charge.contradicted", unknown, "failed")
    assert (await till.charge_row()).status == "failed"


async def test_a_move_names_who_and_why_within_its_columns(till, unknown):
    charges = till.parts.charges
    charge = await charges.attempts.get(unknown)

    await charges.settle(charge, Declined(reason="n" * 300), actor="person " + "p" * 300, why="w" * 300)

    (move,) = await till.moves()
    assert (len(move.actor), len(move.reason), len((await till.charge_row()).reason)) == (255, 255, 255)


async def test_a_payment_that_nobody_touched_has_moved_nowhere(till, unknown):
    await till.age(timedelta(hours=13))

    assert await till.moves() == await till.events() == []
    assert new_id() > unknown
