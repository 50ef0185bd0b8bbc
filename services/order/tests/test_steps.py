"""The saga's side effects, and both its drivers, against a payment that has a memory."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from chassis.db import Database
from chassis.ids import now
from chassis.saga import HandedOver, Run, Saga
from chassis.sidecar import Answer
from chassis.story import Failed, Unknown
from chassis.takeover import Takeover, instance_id
from chassis.tasks import Tasks
from chassis.workflow import Workflow
from order.clients import Payments
from order.declines import DeclineCode
from order.domain import GIVE_UP_AFTER, Money
from order.saga import WORKFLOW, Approved, Confirmed, Declined, GivenBack, OrderRef, Refunded, TooLate, fulfil_order
from order.saga_store import Stores
from order.steps import Steps
from order.tables import orders
from order.timeline import StepName, timeline_of
from stack.fake_sidecar import FakeSidecar

Placed = Callable[..., Awaitable[OrderRef]]
Left = Callable[[str], int | None]
Rows = Callable[[str], list[Any]]
PAID = Approved(payment_id="p-1", transaction_id="tx-1")
REFUSED_REFUND = Failed(reason="refund failed")
CONFIRMED = Confirmed(version=2, paid=PAID)
PENDING = Unknown(reason="processing", pending=True)
PROCESS, REFUND = "payment-service/process-payment", "payment-service/refund-payment"
MINUTE = timedelta(seconds=60)


def run() -> Run:
    """A drive under way, as the steps get it."""
    return Run(reference=None)


@pytest.fixture
def steps(stores: Stores, sidecar: FakeSidecar) -> Steps:
    return Steps(stores=stores, payments=Payments(sidecar))


@pytest.fixture
def saga(steps: Steps, takeover: Takeover[OrderRef]) -> Saga[OrderRef]:
    return Saga(
        name=WORKFLOW,
        story=fulfil_order,
        reference=OrderRef,
        performers=steps.performers(),
        flush=steps.flush,
        takeover=takeover,
        tasks=Tasks(),
    )


async def charge(sidecar: FakeSidecar) -> Any:
    return await Payments(sidecar).charge(
        OrderRef(tenant="default", id="o-1"),
        total=Money.model_validate({"amount": "4.00", "currency": "USD"}),
        method="credit_card",
        card_token="tok_ok",
        settle_only=False,
    )


async def change(db: Database, ref: OrderRef, **values: Any) -> None:
    await db.write(lambda conn: conn.execute(sa.update(orders).where(orders.c.id == ref.id).values(values)))


def test_every_step_has_its_name_in_the_timeline(steps: Steps):
    assert set(steps.performers()) <= set(StepName)


async def test_a_charge_names_its_key_the_total_and_the_token(steps: Steps, placed: Placed, sidecar: FakeSidecar):
    ref = await placed("latte", 2)

    assert await steps.charge(ref, None, run()) == PAID

    [(target, body)] = sidecar.invoked
    assert target == PROCESS
    assert body == {
        "key": f"{ref.id}:charge",
        "orderId": ref.id,
        "amount": "8.00",
        "currency": "USD",
        "paymentMethod": "credit_card",
        "cardToken": "tok_ok",
        "description": f"Order {ref.id}",
        "settleOnly": False,
    }


async def test_a_cancelled_order_is_only_settled_and_its_token_is_gone(
    steps: Steps, stores: Stores, placed: Placed, sidecar: FakeSidecar
):
    ref = await placed()
    await stores.of("default").cancel(ref.id)

    outcome = await steps.charge(ref, None, run())

    assert isinstance(outcome, Declined)
    assert (sidecar.invoked[0][1]["settleOnly"], sidecar.invoked[0][1]["cardToken"]) == (True, None)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            Answer(status=200, data={"status": "succeeded", "paymentId": "p-1", "transactionId": "tx-1"}),
            PAID,
        ),
        (
            Answer(status=200, data={"status": "declined", "paymentId": "p-1", "errorMessage": "insufficient_funds"}),
            Declined(status="declined", payment_id="p-1", code=DeclineCode.INSUFFICIENT_FUNDS),
        ),
        (
            Answer(status=200, data={"status": "failed", "paymentId": "p-1", "errorMessage": None}),
            Declined(status="failed", payment_id="p-1", code=DeclineCode.NOT_PROCESSED),
        ),
        (Answer(status=200, data={"status": "processing", "paymentId": "p-1"}), PENDING),
        (Answer(status=200, data=None), Unknown(reason="no answer from payment")),
        (Answer(status=200, data={"success": True}), Unknown(reason="no answer from payment")),
        (Answer(status=200, data={"status": "succeeded"}), Unknown(reason="succeeded")),
        (Answer(status=500, data={"errorCode": "ERR_DIRECT_INVOKE"}), Unknown(reason="no answer from payment")),
        (Answer(status=422, data={"status": "declined", "paymentId": "p"}), Unknown(reason="no answer from payment")),
    ],
)
async def test_only_a_final_answer_in_a_200_is_final(sidecar: FakeSidecar, answer: Answer, expected: Any):
    sidecar.answers[PROCESS] = answer

    assert await charge(sidecar) == expected


async def test_what_payment_refuses_to_charge_is_settled_and_its_order_fails(sidecar: FakeSidecar):
    """A definite no of ours is no unknown: for a day such an order would hold its stock and be asked for again."""
    nothing = {"status": "failed", "paymentId": "p-1", "transactionId": None, "errorMessage": "never charged"}
    no = Answer(status=422, data={"errorType": "invalid-request"})
    sidecar.answers[PROCESS] = lambda body: Answer(status=200, data=nothing) if body["settleOnly"] else no

    outcome = await charge(sidecar)

    assert outcome == Declined(status="failed", payment_id="p-1", code=DeclineCode.NOT_PROCESSED)
    assert [body["cardToken"] for _, body in sidecar.invoked] == ["tok_ok", None]


async def test_what_was_charged_before_payment_refused_it_is_charged(sidecar: FakeSidecar):
    paid = {"status": "succeeded", "paymentId": "p-1", "transactionId": "tx-1", "errorMessage": None}
    no = Answer(status=422, data={"errorType": "invalid-request"})
    sidecar.answers[PROCESS] = lambda body: Answer(status=200, data=paid) if body["settleOnly"] else no

    assert await charge(sidecar) == PAID


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=422, data={"errorCode": "ERR_DIRECT_INVOKE"}),  # the sidecar's own
        Answer(status=403, data={"errorCode": "ERR_DIRECT_INVOKE"}),
        Answer(status=401, data={"errorType": "unauthenticated"}),
        Answer(status=404, data={"errorType": "not-found"}),
        Answer(status=429, data={"errorType": "rate-limited"}),
        Answer(status=500, data={"errorType": "internal-error"}),
    ],
)
async def test_any_other_refusal_says_nothing_of_the_charge(sidecar: FakeSidecar, answer: Answer):
    sidecar.answers[PROCESS] = answer

    assert await charge(sidecar) == Unknown(reason="no answer from payment")
    assert len(sidecar.invoked) == 1


async def test_a_sidecar_that_is_down_makes_the_outcome_unknown(steps: Steps, placed: Placed, sidecar: FakeSidecar):
    ref = await placed()
    sidecar.alive = False

    assert isinstance(await steps.charge(ref, None, run()), Unknown)
    assert isinstance(await steps.refund(ref, PAID, run()), Unknown)


async def test_after_a_day_without_an_answer_the_order_is_given_up_and_stays_unknown(
    steps: Steps, placed: Placed, sidecar: FakeSidecar, db: Database, rows: Rows
):
    ref = await placed(token="tok_unknown")
    await change(db, ref, created_at=now() - GIVE_UP_AFTER - timedelta(seconds=1))

    assert isinstance(await steps.charge(ref, None, run()), Unknown)

    [row] = rows("SELECT * FROM orders")
    assert (row.status, row.payment_status) == ("payment_failed", "processing")
    assert rows("SELECT available FROM stock") == [(5,)]
    assert isinstance(await steps.charge(ref, None, run()), Approved), "found out by settling"
    assert sidecar.invoked[-1][1]["settleOnly"]


async def test_before_a_day_an_unknown_outcome_changes_nothing(steps: Steps, placed: Placed, db: Database, rows: Rows):
    ref = await placed(token="tok_unknown")
    await change(db, ref, created_at=now() - GIVE_UP_AFTER + timedelta(minutes=1))

    await steps.charge(ref, None, run())

    assert rows("SELECT * FROM orders")[0].status == "pending_payment"


async def test_confirm_says_too_late_when_the_order_is_cancelled(steps: Steps, stores: Stores, placed: Placed):
    ref = await placed()
    assert await steps.confirm(ref, PAID, run()) == CONFIRMED

    other = await placed()
    await stores.of("default").cancel(other.id)
    assert await steps.confirm(other, PAID, run()) == TooLate()


async def test_a_refund_names_its_key_and_is_asked_for_once(
    steps: Steps, stores: Stores, placed: Placed, sidecar: FakeSidecar
):
    ref = await placed("latte", 2)
    await stores.of("default").cancel(ref.id)

    assert await steps.refund(ref, PAID, run()) == Refunded()
    assert await steps.refund(ref, PAID, run()) == Refunded()

    assert sidecar.invoked == [(REFUND, {"key": f"{ref.id}:refund", "paymentId": "p-1", "amount": "8.00"})]


@pytest.mark.parametrize("status", ["processing", "failed"])
async def test_a_refund_that_is_not_through_stays_owed(
    steps: Steps, stores: Stores, placed: Placed, sidecar: FakeSidecar, status: str
):
    ref = await placed()
    await stores.of("default").cancel(ref.id)
    sidecar.answers[REFUND] = Answer(status=200, data={"status": status})

    outcome = await steps.refund(ref, PAID, run())

    assert outcome == (Unknown(reason="refund processing", pending=True) if status == "processing" else REFUSED_REFUND)

    assert (await stores.of("default").get(ref.id)).payment.status == "refund_pending"
    assert await stores.postpone(ref, MINUTE), "somebody is still to look at it"


async def test_the_inline_driver_confirms_and_leaves_its_timeline(saga: Saga[OrderRef], placed: Placed, db: Database):
    ref = await placed()

    assert await saga.run_inline(ref) == CONFIRMED

    lines = await timeline_of(db, ref.tenant, ref.id)
    assert [(line.step, line.phase, line.status, line.attempts) for line in lines] == [
        ("place", "given", "completed", 1),
        ("charge", "when", "completed", 1),
        ("confirm", "then", "completed", 1),
    ]


async def test_a_declined_card_releases_the_stock_and_skips_the_confirmation(
    saga: Saga[OrderRef], placed: Placed, db: Database, left: Left
):
    ref = await placed("latte", 2, token="tok_declined")

    assert isinstance(await saga.run_inline(ref), GivenBack)

    assert left("latte") == 5
    lines = {str(line.step): line for line in await timeline_of(db, ref.tenant, ref.id)}
    assert (lines["confirm"].status, lines["confirm"].attempts) == ("skipped", 0)
    assert (lines["give_back"].phase, lines["give_back"].status) == ("compensation", "completed")


async def test_driven_twice_it_charges_once_and_ends_the_same(
    saga: Saga[OrderRef], placed: Placed, rows: Rows, sidecar: FakeSidecar
):
    ref = await placed()

    assert await saga.run_inline(ref) == await saga.run_inline(ref) == CONFIRMED

    assert {body["key"] for _, body in sidecar.invoked} == {f"{ref.id}:charge"}
    assert [row.type for row in rows("SELECT * FROM outbox")] == ["order.created.v1", "order.confirmed.v1"]


async def test_an_unknown_outcome_is_handed_over_to_the_workflow(
    saga: Saga[OrderRef], placed: Placed, rows: Rows, sidecar: FakeSidecar, db: Database
):
    ref = await placed(token="tok_unknown")

    assert await saga.run_inline(ref) == HandedOver("processing")

    name, argument = sidecar.workflows[instance_id(ref)]
    assert (name, argument["attempt"], argument["reference"]["id"]) == (WORKFLOW, 0, ref.id)
    assert "tok_" not in str(argument)
    [row] = rows("SELECT * FROM orders")
    assert (row.status, row.lease_until) == ("pending_payment", None)
    assert row.due_at is not None
    assert [(line.step, line.status) for line in await timeline_of(db, ref.tenant, ref.id)][-1] == ("charge", "unknown")


async def test_a_durable_step_charges_counts_its_attempt_and_keeps_the_sweep_away(
    saga: Saga[OrderRef], placed: Placed, db: Database, sidecar: FakeSidecar
):
    ref = await placed(token="tok_unknown")
    await saga.run_inline(ref)
    sidecar.answers[PROCESS] = Answer(status=200, data={"status": "processing"})
    call = {"reference": ref.model_dump(mode="json"), "step": "charge", "argument": None, "phase": "when"}

    answer = await Workflow(saga).perform({**call, "attempt": 3})

    assert answer["kind"] == "unknown"
    row = await db.read(lambda conn: conn.execute(sa.select(orders)).one())
    assert timedelta(seconds=75) < row.due_at - now() <= timedelta(seconds=80), "60 s past its timer of 20 s"
    assert [line.attempts for line in await timeline_of(db, ref.tenant, ref.id) if line.step == "charge"] == [2]


async def test_cancelled_during_the_charge_the_money_goes_back(
    saga: Saga[OrderRef], stores: Stores, placed: Placed, rows: Rows, sidecar: FakeSidecar
):
    ref = await placed(token="tok_unknown")
    await saga.run_inline(ref)
    await stores.of("default").cancel(ref.id)

    assert await saga.run_inline(ref) == Refunded()

    assert [target for target, _ in sidecar.invoked] == [PROCESS, PROCESS, REFUND]
    [row] = rows("SELECT * FROM orders")
    assert (row.status, row.payment_status, row.due_at) == ("cancelled", "refunded", None)


async def test_the_processor_hands_every_due_order_to_the_workflow(
    takeover: Takeover[OrderRef], placed: Placed, db: Database, sidecar: FakeSidecar
):
    dead, alive = await placed(), await placed()
    await change(db, dead, lease_until=now() - timedelta(seconds=1))

    await takeover.sweep()
    await takeover.sweep()

    assert list(sidecar.workflows) == [instance_id(dead)]
    assert alive.id != dead.id


async def test_an_order_that_nobody_could_take_over_is_found_by_the_next_run(
    takeover: Takeover[OrderRef], placed: Placed, db: Database, sidecar: FakeSidecar
):
    ref = await placed()
    await change(db, ref, lease_until=now() - timedelta(seconds=1))
    sidecar.alive = False
    await takeover.sweep()
    sidecar.alive = True

    await takeover.sweep()

    assert list(sidecar.workflows) == [instance_id(ref)]
