"""Whatever happens to orders, in any sequence and any number of times, stock, money and events add up."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from chassis.cache import Cache
from chassis.changes.feed import Changes
from chassis.db import Database
from chassis.ids import new_id
from chassis.leases import Leases
from chassis.outbox import Outbox
from chassis.sealing import Sealer
from order import tables
from order.announcements import Announcements
from order.catalog import Shipped
from order.catalogs import Catalogs
from order.domain import IllegalMove, OutOfStock, Status
from order.requests import OrderRequest
from order.saga import Approved, Declined, OrderRef
from order.saga_store import Stores
from order.store import StoreParts
from order.tables import orders, outbox, stock
from stack.examples import examples
from stack.fake_sidecar import FakeSidecar

KEPT = {"pending_payment", "confirmed", "preparation", "ready", "shipped", "delivered"}
ANNOUNCES = {
    "order.created.v1": "pending_payment",
    "order.confirmed.v1": "confirmed",
    "order.payment-failed.v1": "payment_failed",
    "order.cancelled.v1": "cancelled",
}


class Life(RuleBasedStateMachine):
    """Orders on a real database, and the money as the provider has it: one charge and one refund a key."""

    migrated: Path
    shipped: Shipped
    wanted: Callable[..., dict[str, Any]]
    placed = Bundle("placed")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(self.migrated, self.folder / "order.db")
        self.loop = asyncio.Runner()
        self.db = Database(f"sqlite:///{self.folder / 'order.db'}")
        self.loop.run(self.db.start())
        sidecar = FakeSidecar()
        leases = Leases(self.db, tables.leases)
        box = Outbox(db=self.db, table=outbox, leases=leases, sidecar=sidecar, pubsub="pubsub")
        changes = Changes(db=self.db, table=tables.changes, leases=leases)
        told = Announcements(outbox=box, changes=changes)
        cache = Cache(sidecar=sidecar, store="statestore", changes=changes, name="order")
        catalogs = Catalogs(db=self.db, cache=cache, shipped=self.shipped)
        sealer = Sealer()
        sealer.unlock(Fernet.generate_key().decode())
        leased = {"driver_lease": timedelta(seconds=10), "past_timer": timedelta(seconds=60)}
        parts = StoreParts(db=self.db, announcements=told, sealer=sealer, catalogs=catalogs, **leased)
        self.store = Stores(parts).of("default")
        self.charged: dict[str, str] = {}
        self.refunded: set[str] = set()

    def teardown(self) -> None:
        self.loop.run(self.db.stop())
        self.loop.close()
        shutil.rmtree(self.folder)

    @rule(
        target=placed,
        sku=st.sampled_from(["latte", "tea"]),
        quantity=st.integers(1, 3),
        location=st.sampled_from(["take-away", "delivery"]),
    )
    def place(self, sku: str, quantity: int, location: str) -> OrderRef | None:
        order_id = new_id()
        request = OrderRequest.model_validate(self.wanted(sku, quantity, location=location))
        try:
            self.loop.run(self.store.place(order_id, request, owner="anonymous"))
        except OutOfStock:
            return None
        return OrderRef(tenant="default", id=order_id)

    @rule(ref=placed, answer=st.sampled_from(["succeeded", "declined", "failed"]))
    def drive(self, ref: OrderRef | None, answer: str) -> None:
        """One whole drive of the saga, by whichever driver; the provider's first answer under the key stands."""
        if ref is None:
            return
        settle_only = self.loop.run(self.store.to_charge(ref.id)).settle_only
        known = self.charged.setdefault(ref.id, "failed" if settle_only else answer)
        if known == "succeeded":
            self.confirm(ref)
        else:
            self.give_back(ref, known)

    @rule(ref=placed, answer=st.sampled_from(["succeeded", "declined"]))
    def charge_and_die(self, ref: OrderRef | None, answer: str) -> None:
        """Charged, and killed before anything of it was written."""
        if ref is not None and not self.loop.run(self.store.to_charge(ref.id)).settle_only:
            self.charged.setdefault(ref.id, answer)

    @rule(ref=placed)
    def cancel(self, ref: OrderRef | None) -> None:
        self._refusable(ref, lambda known: self.store.cancel(known.id))

    @rule(ref=placed)
    def give_up(self, ref: OrderRef | None) -> None:
        self._refusable(ref, self.store.give_up)

    @rule(ref=placed, move=st.sampled_from([Status.PREPARATION, Status.READY, Status.SHIPPED, Status.DELIVERED]))
    def advance(self, ref: OrderRef | None, move: Status) -> None:
        tracking = "1Z" if move is Status.SHIPPED else None
        self._refusable(ref, lambda known: self.store.advance(known.id, move, tracking_number=tracking))

    @rule(ref=placed)
    def hand_over(self, ref: OrderRef | None) -> None:
        self._refusable(ref, lambda known: self.store.postpone(known.id, timedelta(seconds=60)))

    def confirm(self, ref: OrderRef) -> None:
        paid = Approved(payment_id="p-1", transaction_id="tx-1")
        if not self.loop.run(self.store.confirm(ref, paid, list)) and self.loop.run(self.store.owe_refund(ref, paid)):
            self.refunded.add(ref.id)
            self.loop.run(self.store.refunded(ref, list))

    def give_back(self, ref: OrderRef, answer: str) -> None:
        refusal = Declined.model_validate({"status": answer, "payment_id": "p-1", "reason": "no"})
        self.loop.run(self.store.give_back(ref, refusal, list))

    def _refusable(self, ref: OrderRef | None, act: Callable[[OrderRef], Any]) -> None:
        if ref is not None:
            with contextlib.suppress(IllegalMove):
                self.loop.run(act(ref))

    @invariant()
    def it_all_adds_up(self) -> None:
        def look(conn: sa.Connection) -> list[list[Any]]:
            return [list(conn.execute(sa.select(one).order_by(*one.primary_key))) for one in (orders, stock, outbox)]

        rows, lines, told = self.loop.run(self.db.read(look))
        self._stock_is_conserved(rows, lines)
        for row in rows:
            self._every_move_is_announced_once(row, [event for event in told if event.aggregate_id == row.id])
            self._what_is_open_is_found_again(row)
            self._confirmed_is_charged_and_cancelled_comes_to_nothing(row)

    def _stock_is_conserved(self, rows: list[Any], lines: list[Any]) -> None:
        items = [item for row in rows if row.status in KEPT for item in orjson.loads(row.items)]
        for line in lines:
            taken = sum(item["quantity"] for item in items if item["sku"] == line.sku)
            assert line.available >= 0
            assert line.available + taken == self.shipped.stock[line.sku]

    def _every_move_is_announced_once(self, row: Any, told: list[Any]) -> None:
        facts = [(event.type, orjson.loads(event.data)) for event in told]
        assert [data["version"] for _, data in facts] == list(range(1, row.version + 1))
        assert facts[-1][1]["status"] == row.status
        assert all(ANNOUNCES.get(kind, data["status"]) == data["status"] for kind, data in facts)

    def _what_is_open_is_found_again(self, row: Any) -> None:
        settled = row.payment_status in {"succeeded", "declined", "failed", "refunded"}
        assert (row.lease_until is None and row.due_at is None) == settled

    def _confirmed_is_charged_and_cancelled_comes_to_nothing(self, row: Any) -> None:
        kept = self.charged.get(row.id) == "succeeded" and row.id not in self.refunded
        if row.status in KEPT - {"pending_payment"}:
            assert kept
        elif row.payment_status in {"declined", "failed", "refunded"}:
            assert not kept
        assert (row.card_token is not None) == (row.status == "pending_payment")


@pytest.fixture
def life(migrated: Path, shipped: Shipped, wanted: Callable[..., dict[str, Any]]) -> type[Life]:
    return type("LifeHere", (Life,), {"migrated": migrated, "shipped": shipped, "wanted": staticmethod(wanted)})


@pytest.mark.hypothesis
def test_whatever_happens_stock_money_and_events_add_up(life: type[Life]):
    run_state_machine_as_test(
        life,
        settings=examples(5, stateful_step_count=20, derandomize=True, database=None),
    )
