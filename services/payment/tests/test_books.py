"""Whatever happens in whatever order: in the end the providers' books and our records agree to the cent."""

import asyncio
import shutil
from collections import Counter
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from payment.domain import CAPTURED, KeyMismatch, RefundExceedsCaptured, Status
from payment.events import PaymentCaptured, PaymentDeclined, PaymentRefunded
from payment.tables import payments
from stack.examples import examples

ORDERS = st.sampled_from(["o-1", "o-2"])
FATES = st.sampled_from(["lost", "late", "down", "decline", "refuse"])
SIDES = st.sampled_from(["a", "b"])
PASSING = st.sampled_from([timedelta(seconds=3), timedelta(seconds=12), timedelta(seconds=31), timedelta(hours=1)])
AMOUNTS = {"o-1": "9.00", "o-2": "1234"}
CURRENCIES = {"o-1": "USD", "o-2": "JPY"}
PARTS = {"o-1": ["9.00", "4.00", "0.01"], "o-2": ["1234", "600", "1"]}
PROCESSED_WITHIN = timedelta(seconds=30)


class Books(RuleBasedStateMachine):
    """Two providers that keep books, one service that is killed now and then, and a clock of their own."""

    def __init__(self, start, make_provider, tell, discard):
        super().__init__()
        self.runner = asyncio.Runner()
        self.start, self.tell, self.discard = start, tell, discard
        self.providers = {"a": make_provider("-a"), "b": make_provider("-b")}
        self.clock = timedelta()
        self.late_since = {}
        self.keys = count()
        self.till = self.run(start(self.providers))

    def run(self, work):
        return self.runner.run(work)

    # --- what others do ---

    @rule(order=ORDERS)
    def charge(self, order):
        self.run(self.pay(order))

    @rule(order=ORDERS)
    def settle_only(self, order):
        self.run(self.pay(order, settle_only=True))

    @rule(order=ORDERS, part=st.integers(0, 2), same_key=st.booleans())
    def refund_as_order_does(self, order, part, same_key):
        async def work():
            if (charge := await self.till.parts.charges.find("default", f"{order}:charge")) is None:
                return
            key = f"{order}:refund" if same_key else f"{order}:refund:{next(self.keys)}"
            try:
                await self.till.give_back(charge.id, PARTS[order][part], key)
            except (RefundExceedsCaptured, KeyMismatch):
                return

        self.run(work())

    @rule(order=ORDERS, amount=st.sampled_from([None, 1, 400]))
    def refund_by_the_api(self, order, amount):
        async def work():
            api = self.till.parts
            if (charge := await api.charges.find("default", f"{order}:charge")) is None:
                return
            key = f"caller's {next(self.keys)}"
            asked = {"key": key, "body_hash": "b", "payment_id": charge.id, "amount": amount}
            try:
                refund, made = await api.refunds.get_or_reserve_once("default", **asked)
            except RefundExceedsCaptured:
                return
            await api.refund_driver.drive(refund, fresh=made)

        self.run(work())

    @rule(side=SIDES, fate=FATES)
    def fails_next(self, side, fate):
        self.providers[side].next_posts.append(fate)

    @rule(side=SIDES, blind=st.booleans())
    def answers_look_ups(self, side, blind):
        self.providers[side].blind = not blind

    @rule(side=SIDES)
    def does_late_what_it_took(self, side):
        self.providers[side].catch_up()

    @rule(side=SIDES, twice=st.booleans())
    def tells_what_it_has_booked(self, side, twice):
        async def work():
            for key in [*self.providers[side].charges, *self.providers[side].refunds]:
                for _ in range(1 + twice):
                    await self.announce(side, key)

        self.run(work())

    @rule(side=SIDES, early=st.booleans())
    def tells_before_it_answers(self, side, early):
        announce = lambda key: self.announce(side, key)  # noqa: E731
        self.providers[side].on_booked = announce if early else None

    # --- what happens to us ---

    @rule()
    def sweep(self):
        self.run(self.till.sweep())

    @precondition(lambda self: self.clock < timedelta(hours=9))
    @rule(by=PASSING)
    def time_passes(self, by):
        self.run(self.pass_time(by))

    @rule()
    def killed(self):
        self.run(self.reopen())

    @rule(order=ORDERS, booked=st.booleans())
    def killed_while_charging(self, order, booked):
        async def work():
            for provider in self.providers.values():
                (provider.may_answer if booked else provider.may_begin).clear()
            paying = asyncio.create_task(self.pay(order))
            await asyncio.wait({paying}, timeout=0.03)
            await self.reopen()
            for provider in self.providers.values():
                provider.may_begin.set()
                provider.may_answer.set()
            paying.cancel()
            await asyncio.wait({paying})

        self.run(work())

    # --- and what has to be true of it ---

    def teardown(self):
        try:
            self.run(self.heal())
            self.run(self.audit())
            self.run(self.cancel())
            self.run(self.audit())
        finally:
            self.run(self.till.kill())
            self.runner.close()
            self.discard()

    async def heal(self):
        for provider in self.providers.values():
            provider.next_posts.clear()
            provider.blind = False
            provider.on_booked = None
        for _ in range(4):
            await self.pass_time(timedelta(seconds=31))
            await self.till.make_due()
            await self.till.sweep()

    async def cancel(self):
        """Whatever went back before: an order that is cancelled now gets the rest, and no more."""
        for order, amount in AMOUNTS.items():
            charge = await self.till.parts.charges.find("default", f"{order}:charge")
            if charge is not None and charge.status in CAPTURED:
                assert (await self.till.give_back(charge.id, amount, f"{order}:cancelled")).status == "succeeded"
                assert (await self.till.charge_row(f"{order}:charge")).status == "refunded"

    async def audit(self):
        rows = await self.till.parts.db.read(lambda conn: conn.execute(payments.select()).all())
        given = await self.till.refund_rows()
        moves, events = await self.till.moves(), await self.till.events()
        assert all(row.status != "processing" for row in (*rows, *given))
        for row in rows:
            self.audit_charge(row)
            self.audit_refunds(row, [one for one in given if one.payment_id == row.id])
            self.audit_events(row, [(kind, data) for kind, data in events if kind.aggregate_id == row.id])
            mine = [move for move in moves if move.payment_id == row.id and move.refund_id is None]
            assert replay(mine) == row.status
        for one in given:
            assert replay([move for move in moves if move.refund_id == one.id]) == one.status
        assert {move.payment_id for move in moves} <= {row.id for row in rows}

    def audit_charge(self, row):
        captured = [name for name, provider in self.providers.items() if row.key in provider.captured]
        if row.status in {"succeeded", "partially_refunded", "refunded"}:
            assert captured == [row.provider]
            assert self.providers[row.provider].money[row.key] == row.amount
            assert row.transaction_id == self.providers[row.provider].charges[row.key].transaction_id
        else:
            assert (captured, row.refunded) == ([], 0)
        assert row.card_token is None

    def audit_refunds(self, row, given):
        succeeded = [one for one in given if one.status == "succeeded"]
        booked = {key: self.providers[side].money[key] for side in "ab" for key in self.providers[side].refunds}
        of_row = {key_at_provider(one): one.amount for one in given}
        assert {key: booked[key] for key in of_row if key in booked} == {
            key_at_provider(one): one.amount for one in succeeded
        }
        assert row.refunded == sum(one.amount for one in succeeded) <= row.amount
        whole = row.refunded == row.amount
        assert (row.status == "refunded") == whole
        assert (row.status == "partially_refunded") == (0 < row.refunded < row.amount)

    def audit_events(self, row, events):
        versions = [data["version"] for _, data in events]
        assert versions == sorted(set(versions))
        assert versions[-1] == row.version
        final = PaymentDeclined.type if row.status in {"declined", "failed"} else PaymentCaptured.type
        kinds = Counter(kind.type for kind, _ in events)
        refunded = Counter(data["refundId"] for kind, data in events if kind.type == PaymentRefunded.type)
        assert kinds[final] == 1
        assert kinds.total() == 1 + refunded.total()
        assert set(refunded.values()) <= {1}

    # --- how it is done ---

    async def pay(self, order, **how):
        wanted = {"key": f"{order}:charge", "order_id": order, "amount": AMOUNTS[order], "currency": CURRENCIES[order]}
        return await self.till.pay(**wanted, **how)

    async def announce(self, side, key):
        provider = self.providers[side]
        order = key.partition(":")[0]
        if key in provider.charges:
            kind = "charge.approved" if key in provider.captured else "charge.declined"
            money = {"amount": AMOUNTS[order], "currency": CURRENCIES[order]}
        else:
            kind = "refund.succeeded"
            known = [one for one in await self.till.refund_rows() if key_at_provider(one) == key]
            charge = await self.till.parts.charges.attempts.get(known[0].payment_id)
            minor = provider.money[key]
            amount = str(minor) if charge.currency == "JPY" else f"{minor // 100}.{minor % 100:02}"
            money = {"amount": amount, "currency": charge.currency}
        await self.tell(
            self.till, side, kind, key=key, transactionId=f"tx-{side}-{key}", delivery_id=f"{kind}:{key}", **money
        )

    async def pass_time(self, by):
        """Within the processing limit a provider does what it took, or never. Late ones are done at the last moment."""
        for provider in self.providers.values():
            for entry in provider.late:
                self.late_since.setdefault(id(entry), self.clock)
        self.clock += by
        for provider in self.providers.values():
            if any(self.clock - self.late_since[id(entry)] >= PROCESSED_WITHIN for entry in provider.late):
                provider.catch_up()
        await self.till.age(by)

    async def reopen(self):
        await self.till.kill()
        self.till = await self.start(self.providers)
        await self.till.parts.charges.attempts.release_claims()
        await self.till.parts.refunds.attempts.release_claims()


def key_at_provider(refund):
    return refund.id if refund.key.startswith("api:") else refund.key


def replay(moves):
    status = Status.PROCESSING.value
    for move in moves:
        assert move.from_status == status
        status = move.to_status
    return status


@pytest.mark.hypothesis
def test_books_and_records_agree_whatever_happens(opened, database, make_provider, tell, tmp_path):
    empty = tmp_path / "empty.db"
    shutil.copy(database, empty)

    async def start(by_name):
        return await opened(by_name=by_name, routes=({"weights": {"a": 1, "b": 0}},), answer_seconds=1.0)

    def discard():
        for file in database.parent.glob("payment.db*"):
            file.unlink()
        shutil.copy(empty, database)

    run_state_machine_as_test(
        lambda: Books(start, make_provider, tell, discard),  # pyright: ignore[reportArgumentType]
        settings=examples(6, stateful_step_count=25, derandomize=True),
    )


async def test_the_audit_sees_a_charge_too_many(opened, make_provider):
    """It is worth something only if it fails."""
    machine = object.__new__(Books)
    machine.providers = {"a": make_provider("-a"), "b": make_provider("-b")}
    machine.till = till = await opened(by_name=machine.providers, routes=({"weights": {"a": 1, "b": 0}},))
    await till.pay()
    await machine.audit()
    machine.providers["b"]._book("o-1:charge", 900, machine.providers["b"].charges)

    with pytest.raises(AssertionError):
        await machine.audit()
