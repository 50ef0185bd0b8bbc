"""Tenants do not interfere: whatever the others do, each sees exactly what it would see alone."""

import asyncio
import json
import shutil
import tempfile
from datetime import timedelta
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from chassis.cache import Cache
from chassis.changes.feed import Changes
from chassis.db import Database
from chassis.events import CloudEvent
from chassis.leases import Leases
from chassis.outbox import Outbox
from chassis.tasks import Tasks
from notification import tables
from notification.announcements import Announcements
from notification.channels.push.channel import Push
from notification.domain import ChannelName, NotYours, OtherTenant, UnknownNotification
from notification.incoming.dead_letter_records import LetterFilter, Outcome
from notification.incoming.dead_letters import dead_letter, keep_once
from notification.incoming.intake import Intake
from notification.incoming.routing_table import RouteTable
from notification.incoming.saga_records import takeover
from notification.queue.history import Filter, Page
from notification.recipients.unsubscribe_link import Unsubscribing
from notification.sending.compose import Wording
from notification.sending.sender import Sender
from notification.tables import contacts, dead_letters, event_processing, notifications, subjects
from notification.templates.catalog import Catalog
from notification.unit_of_work import Units
from stack.examples import examples
from stack.fake_sidecar import FakeSidecar

TENANTS, OWNERS = ("a", "b"), ("u-1", "u-2")
PASSING = {
    "id", "created_at", "received_at", "replayed_at", "processed_at", "lease_until", "next_attempt_at", "as_of",
}  # fmt: skip


def _one_of(*values):
    return st.sampled_from(values)


# Few values, so that ids, orders and people of the two tenants meet.
events = st.fixed_dictionaries(
    {
        "what": st.just("event"),
        "tenant": _one_of(*TENANTS),
        "id": _one_of("e-1", "e-2", "e-3"),
        "type": _one_of("order.confirmed.v1", "order.cancelled.v1", "order.status-changed.v1"),
        "order": _one_of("o-1", "o-2"),
        "owner": _one_of(*OWNERS, None),
        "recipient": _one_of(*OWNERS),
        "version": st.integers(1, 3),
    }
)
letters = st.fixed_dictionaries(
    {
        "what": st.just("letter"),
        "tenant": _one_of(*TENANTS),
        "id": _one_of("e-1", "e-2"),
        "topic": _one_of("orders", ""),
    }
)
replays = st.fixed_dictionaries({"what": st.just("replay"), "tenant": _one_of(*TENANTS)})
steps = st.lists(events | letters | replays, max_size=12)


class World:
    """One database, and nobody who sends: only what tenants do changes it."""

    def __init__(self, db):
        self.db = db
        sidecar, leases = FakeSidecar(), Leases(db, tables.leases)
        changes = Changes(db=db, table=tables.changes, leases=leases)
        outbox = Outbox(db=db, table=tables.outbox, leases=leases, sidecar=sidecar, pubsub="pubsub")
        announcements = Announcements(outbox=outbox, changes=changes)
        cache = Cache(sidecar=sidecar, store="statestore", changes=changes, name="notification")
        wording = Wording(db=db, catalog=Catalog(db, cache), unsubscribing=Unsubscribing("http://test"), links={})
        silent = dict.fromkeys(ChannelName, Push(sidecar=sidecar, endpoint="push"))
        sender = Sender(db=db, channels=silent, wording=wording, announcements=announcements)
        self.units = Units(db, announcements)
        hand_over = takeover(db, sidecar, past_timer=timedelta(minutes=1)).hand_over
        self.intake = Intake(
            db=db, routes=RouteTable(db=db, cache=cache), sender=sender, hand_over=hand_over, tasks=Tasks()
        )

    async def do(self, step):
        await getattr(self, step["what"])(step)

    async def event(self, step):
        data = {
            "version": step["version"],
            "orderId": step["order"],
            "ownerId": step["owner"],
            "status": "ready",
            "customer": {"id": step["recipient"], "name": "Ada", "email": "ada@example.com"},
            "items": [],
            "total": {"amount": "9.00", "currency": "USD"},
        }
        event = CloudEvent(id=step["id"], type=step["type"], tenantid=step["tenant"], data=data)
        await self.intake.take("orders", event)

    async def letter(self, step):
        body = json.dumps({"tenantid": step["tenant"], "id": step["id"], "type": "x"}).encode()
        letter = dead_letter(body, app_id="notification-service", topic=step["topic"])
        await self.db.write(lambda conn: keep_once(conn, letter))

    async def replay(self, step):
        """The tenant's administrator tries every letter there is."""
        for row in await self.rows(dead_letters):
            try:
                await self.units.write(step["tenant"], partial(_replayed, letter_id=row.id))
                assert row.tenant == step["tenant"]
            except OtherTenant:
                assert row.tenant != step["tenant"]

    async def rows(self, table, *conditions):
        return await self.db.read(lambda conn: list(conn.execute(sa.select(table).where(*conditions))))

    async def whole(self, tenant):
        """Everything on record of a tenant, but for ids and times, which are no two times the same."""
        return {
            table.name: sorted(map(_lasting, await self.rows(table, table.c.tenant == tenant)))
            for table in (notifications, dead_letters, subjects, contacts, event_processing)
        }


def _replayed(unit, letter_id):
    replay = unit.dead_letters.begin_replay(letter_id, by="a-1")
    unit.dead_letters.end_replay(replay, Outcome.DELIVERED)


def _lasting(row):
    values = {name: value for name, value in row._mapping.items() if name not in PASSING}
    return repr((values, getattr(row, "replayed_at", None) is None))


def _play(migrated, taken, look):
    """What `look` sees once all of `taken` has happened in a fresh world."""

    async def play():
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(migrated, Path(folder) / "n.db")
            db = Database(f"sqlite:///{folder}/n.db")
            await db.start()
            try:
                world = World(db)
                for step in taken:
                    await world.do(step)
                return await look(world)
            finally:
                await db.stop()

    return asyncio.run(play())


@examples(5)
@given(steps)
def test_what_a_tenant_does_changes_nothing_of_another(migrated, taken):
    async def everything(world):
        return {tenant: await world.whole(tenant) for tenant in TENANTS}

    together = _play(migrated, taken, everything)
    for tenant in TENANTS:
        alone = [step for step in taken if step["tenant"] == tenant]
        assert together[tenant] == _play(migrated, alone, everything)[tenant]


@examples(5)
@given(steps, _one_of(None, *OWNERS), _one_of(None, "o-1"), st.integers(1, 3))
def test_a_read_shows_exactly_what_is_the_callers(migrated, taken, recipient, order, size):
    wanted = Filter(recipient_id=recipient, subject_id=order)

    def fits(row):
        return recipient in {None, row.recipient_id} and order in {None, row.subject_id}

    async def reads(world):
        rows, kept = await world.rows(notifications), await world.rows(dead_letters)
        for tenant in TENANTS:
            own = [row for row in kept if row.tenant == tenant]
            assert await _all_pages(partial(_letters, world, tenant), size) == _newest(own)
            for owner in (None, *OWNERS):
                listed = await _all_pages(partial(_history, world, tenant, owner, wanted), size)
                assert listed == _newest(row for row in rows if fits(row) and _right(row, tenant, owner) == row.id)
                for row in rows:
                    assert await _told(world, tenant, owner, row.id) == _right(row, tenant, owner)
                assert await _told(world, tenant, owner, "none") is UnknownNotification

    _play(migrated, taken, reads)


async def _all_pages(read, size):
    ids, cursor = [], None
    while True:
        rows, cursor = await read(Page(size=size, cursor=cursor))
        ids += [row.id for row in rows]
        if cursor is None:
            return ids


def _newest(rows):
    return sorted((row.id for row in rows), reverse=True)


def _letters(world, tenant, page):
    return world.units.read(tenant, lambda unit: unit.dead_letters.page(LetterFilter(), page))


def _history(world, tenant, owner, wanted, page):
    return world.units.read(tenant, lambda unit: unit.notifications.history(wanted, page), owner=owner)


async def _told(world, tenant, owner, notification_id):
    try:
        row = await world.units.read(tenant, lambda unit: unit.notifications.get(notification_id), owner=owner)
    except (OtherTenant, NotYours, UnknownNotification) as refusal:
        return type(refusal)
    return row.id


def _right(row, tenant, owner):
    if row.tenant != tenant:
        return OtherTenant
    return row.id if owner in {None, row.owner} else NotYours
