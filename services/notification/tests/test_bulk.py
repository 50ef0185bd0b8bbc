"""Everybody in the list gets one message or a reason, whatever dies and however often; and never faster than agreed."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, TypeVar

import httpx
import orjson
import pytest
import sqlalchemy as sa
from fastapi import Request

from chassis.cache import Cache
from chassis.changes.feed import Changes
from chassis.db import Database
from chassis.edge.auth import Caller, Role
from chassis.ids import new_id, now
from chassis.leases import Leases
from chassis.outbox import Outbox
from chassis.problems import Problem
from notification import tables
from notification.announcements import Announcements
from notification.api import bulk as api
from notification.bulk.bulks import BulkStore, NewBulk
from notification.bulk.worker import CHUNK, Bulks, take_chunk
from notification.channels import bulk_rates
from notification.domain import ChannelName, IdempotencyMismatch, OtherTenant, UnknownBulk
from notification.outcomes import Postponed, Settled
from notification.queue.bulk_rate import Rates
from notification.queue.claim import claim
from notification.queue.record_outcome import settle
from notification.recipients.preferences import ChannelPreference, Preference, Preferences
from notification.settings import Settings
from notification.tables import bulk_recipients, bulks, contacts, notifications
from notification.templates.catalog import Catalog
from notification.templates.shipped import Source
from notification.templates.versions import Key, Templates
from notification.unit_of_work import Units
from stack.eventually import eventually
from stack.fake_sidecar import FakeSidecar

T = TypeVar("T")

TENANT = "default"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PATH = "/api/v1/notifications/bulk"
LEASE = timedelta(seconds=10)
UNPACED: Rates = {}
REFUSALS: dict[type[Exception], Problem] = {
    UnknownBulk: Problem(status=404, error_type="bulk-not-found", title="Bulk not found"),
    OtherTenant: Problem(status=403, error_type="different-tenant", title="Belongs to different tenant"),
    IdempotencyMismatch: Problem(status=422, error_type="idempotency-mismatch", title="Key used for another body"),
}


class Crash(Exception):
    """The process is gone."""


class Fragile(Database):
    """Dies with its `dies_at`th write from now: before it, or in the middle of it, when all its work is done but not
    committed, or just after its commit."""

    dies_at = 0
    dies = "before"

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        self.dies_at -= 1
        if self.dies_at != 0:
            return await super().write(work)
        if self.dies == "before":
            raise asyncio.CancelledError

        def dying(conn: sa.Connection) -> T:
            work(conn)
            raise Crash

        with suppress(Crash):
            await super().write(dying if self.dies == "within" else work)
        raise asyncio.CancelledError


def wanted(
    recipients: Sequence[tuple[str, dict[str, Any]]],
    channel: ChannelName = ChannelName.EMAIL,
    chain: tuple[ChannelName, ...] = (),
) -> NewBulk:
    return NewBulk(
        channel=channel,
        chain=chain,
        category="Marketing",
        template="offer",
        context={"drink": "Latte", "price": "4.50"},
        recipients=recipients,
        author="a-1",
        traceparent=TRACE,
    )


class Desk:
    """Knows a tenant's recipients, asks for bulks and looks what has become of them."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.size = CHUNK

    async def know(
        self, *ids: str, tenant: str = TENANT, email: str | None = None, phone: str = "", locale: str = ""
    ) -> None:
        rows = [
            {
                "tenant": tenant,
                "id": one,
                "owner": f"owner of {one}"[:64],
                "name": "Ada",
                "email": f"{one}@example.com" if email is None else email,
                "email_key": f"{one}@example.com" if email is None else email,
                "phone": phone,
                "locale": locale,
                "version": 1,
                "as_of": now(),
            }
            for one in ids
        ]
        await self.db.write(lambda conn: conn.execute(sa.insert(contacts), rows))

    async def ask(
        self,
        ids: Sequence[str],
        *,
        tenant: str = TENANT,
        channel: ChannelName = ChannelName.EMAIL,
        chain: tuple[ChannelName, ...] = (),
        own: dict[str, dict[str, Any]] | None = None,
    ) -> str:
        asked = wanted([(one, (own or {}).get(one, {})) for one in ids], channel, chain)
        made, _ = await self.db.write(lambda conn: BulkStore(conn, tenant).create(asked, None))
        return made

    async def messages(self) -> Sequence[sa.Row[Any]]:
        query = sa.select(notifications).order_by(notifications.c.next_attempt_at, notifications.c.id)
        return await self.db.read(lambda conn: conn.execute(query).all())

    async def results(self, bulk_id: str) -> list[tuple[str, str, str | None]]:
        rows = await self.db.read(
            lambda conn: BulkStore(conn, TENANT).recipients(bulk_id, standing=None, after=None, limit=10_000)
        )
        return [(row.recipient_id, row.standing, row.error) for row in rows]

    async def through(self, bulk_id: str) -> bool:
        taken_at = sa.select(bulks.c.taken_at).where(bulks.c.id == bulk_id)
        return await self.db.read(lambda conn: conn.execute(taken_at).scalar_one()) is not None

    async def move(self, recipient_id: str, status: str, **told: Any) -> None:
        moved = sa.update(notifications).where(notifications.c.recipient_id == recipient_id)
        await self.db.write(lambda conn: conn.execute(moved.values(status=status, **told)))

    async def chunk(self, rates: Rates = UNPACED, at: datetime | None = None) -> bool:
        return await self.db.write(lambda conn: take_chunk(conn, at=at or now(), rates=rates, size=self.size))

    async def taken(self, *asked: str) -> list[int]:
        rows = await self.db.read(lambda conn: conn.execute(sa.select(bulks)).all())
        taken = {row.id: row.taken for row in rows}
        return [taken[one] for one in asked]

    async def take_through(self, *asked: str, rates: Rates = UNPACED) -> None:
        while await self.chunk(rates):
            pass
        assert [await self.through(one) for one in asked] == [True] * len(asked)

    async def look_every_second(self, began: datetime, seconds: range, rates: Rates) -> None:
        """As a worker does that nobody wakes."""
        for second in seconds:
            at = began + timedelta(seconds=second)
            while await self.chunk(rates, at):
                at += timedelta(milliseconds=1)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Fragile]:
    database = Fragile(database_url)
    await database.start()
    yield database
    await database.stop()


@pytest.fixture
def desk(db: Database) -> Desk:
    return Desk(db)


@pytest.fixture
def small_chunks(desk: Desk) -> None:
    desk.size = 3


@asynccontextmanager
async def running(db: Database, chunk: int = CHUNK) -> AsyncGenerator[Bulks]:
    worker = Bulks(db=db, rates=UNPACED, chunk=chunk)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def names(count: int) -> list[str]:
    return [f"c-{number}" for number in range(count)]


# --- what the worker makes of it ---


async def test_everybody_gets_one_message_in_their_own_words(desk: Desk) -> None:
    await desk.know("c-1", locale="pt-BR")
    await desk.know("c-2")
    asked = await desk.ask(["c-1", "c-2"], own={"c-2": {"price": "3.00"}})
    await desk.take_through(asked)
    one, two = sorted(await desk.messages(), key=lambda row: row.recipient_id)
    assert (one.address, one.locale, one.owner, one.status) == ("c-1@example.com", "pt-BR", "owner of c-1", "queued")
    assert (two.locale, one.group_id, one.category, one.template) == ("en", asked, "Marketing", "offer")
    user = {"name": "Ada", "phone": ""}
    first = user | {"id": "c-1", "email": "c-1@example.com", "locale": "pt-BR"}
    second = user | {"id": "c-2", "email": "c-2@example.com", "locale": ""}
    assert orjson.loads(one.context) == {"user": first, "drink": "Latte", "price": "4.50"}
    assert orjson.loads(two.context) == {"user": second, "drink": "Latte", "price": "3.00"}
    assert one.traceparent == two.traceparent == TRACE
    assert await desk.results(asked) == [("c-1", "queued", None), ("c-2", "queued", None)]


async def test_one_bad_recipient_fails_alone_and_says_why(desk: Desk) -> None:
    await desk.know("c-1", "c-3")
    await desk.know("mute", email="")
    asked = await desk.ask(["c-1", "nobody", "mute", "c-1", "c-3"])
    await desk.take_through(asked)
    assert await desk.results(asked) == [
        ("c-1", "queued", None),
        ("nobody", "failed", "unknown recipient"),
        ("mute", "failed", "no address"),
        ("c-1", "failed", "listed twice"),
        ("c-3", "queued", None),
    ]
    assert Counter(row.recipient_id for row in await desk.messages()) == {"c-1": 1, "c-3": 1}


async def test_the_chain_begins_where_a_recipient_can_be_reached(desk: Desk) -> None:
    await desk.know("both", phone="+12025550123")
    await desk.know("mail")
    chain = (ChannelName.EMAIL, ChannelName.PUSH)
    await desk.take_through(await desk.ask(["both", "mail"], channel=ChannelName.SMS, chain=chain))
    assert {row.recipient_id: (row.channel, row.address, row.chain) for row in await desk.messages()} == {
        "both": ("sms", "+12025550123", "email,push"),
        "mail": ("email", "mail@example.com", "push"),
    }


async def test_a_contact_of_another_tenant_is_unknown(desk: Desk) -> None:
    await desk.know("c-1")
    await desk.db.write(lambda conn: conn.execute(sa.update(contacts).values(tenant="other")))
    asked = await desk.ask(["c-1"])
    await desk.take_through(asked)
    assert await desk.results(asked) == [("c-1", "failed", "unknown recipient")]


async def test_a_running_worker_takes_a_bulk_as_soon_as_it_is_woken(desk: Desk) -> None:
    ids = names(2 * CHUNK + 1)
    await desk.know(*ids)
    async with running(desk.db) as worker:
        asked = await desk.ask(ids)
        worker.wake()
        await eventually(lambda: desk.through(asked))
    assert Counter(row.recipient_id for row in await desk.messages()) == Counter(ids)


# --- whatever dies ---


@pytest.mark.parametrize("dies", ["before", "within", "after"])
@pytest.mark.parametrize("dies_at", [1, 2, 3, 4])
async def test_a_worker_that_dies_anywhere_loses_nothing_and_doubles_nothing(
    db: Fragile, desk: Desk, dies: str, dies_at: int
) -> None:
    """Ten recipients are four chunks, each a write."""
    ids = names(9)
    await desk.know(*ids)
    asked = await desk.ask([*ids, "nobody"])
    db.dies, db.dies_at = dies, dies_at
    with pytest.raises(asyncio.CancelledError):
        await Bulks(db=db, rates=UNPACED, chunk=3).run()
    async with running(db, chunk=3):
        await eventually(lambda: desk.through(asked))
    assert Counter(row.recipient_id for row in await desk.messages()) == Counter(ids)
    assert await desk.results(asked) == [
        *((one, "queued", None) for one in ids),
        ("nobody", "failed", "unknown recipient"),
    ]


def test_two_workers_never_take_the_same_chunk(on_postgres: sa.Engine) -> None:
    def take(conn: sa.Connection) -> bool:
        return take_chunk(conn, at=now(), rates=UNPACED, size=3)

    def taken(conn: sa.Connection) -> list[int]:
        return list(conn.execute(sa.select(bulks.c.taken).order_by(bulks.c.id)).scalars())

    recipients = [(one, {}) for one in names(4)]
    with on_postgres.begin() as conn:
        for _ in range(2):
            BulkStore(conn, TENANT).create(wanted(recipients), None)
    with on_postgres.begin() as one, on_postgres.begin() as two, on_postgres.begin() as three:
        assert [take(one), take(two), take(three)] == [True, True, False]  # a bulk each
        assert (taken(one), taken(two)) == ([3, 0], [0, 3])
    with on_postgres.begin() as one, on_postgres.begin() as two:
        one.execute(sa.select(bulks).order_by(bulks.c.id).limit(1).with_for_update())
        assert (take(two), take(two)) == (True, False)
        assert taken(two) == [3, 4]


async def test_a_bulk_that_breaks_its_worker_does_not_stand_in_the_way(desk: Desk) -> None:
    await desk.know("c-1")
    broken = await desk.ask(["c-1"])
    spoilt = sa.update(bulk_recipients).where(bulk_recipients.c.bulk_id == broken).values(context="{")
    await desk.db.write(lambda conn: conn.execute(spoilt))
    good = await desk.ask(["c-1"])
    async with running(desk.db):
        await eventually(lambda: desk.through(good))
    assert not await desk.through(broken)


async def test_of_a_chunk_that_broke_nothing_is_left_and_it_has_its_turn_again_later(desk: Desk) -> None:
    """It breaks late: its messages are written, its recipients' rows can't be."""
    await desk.know("c-1")
    asked, at = await desk.ask(["c-1"]), now()

    async def say(sql: str) -> None:
        await desk.db.write(lambda conn: conn.execute(sa.text(sql)))

    await say("CREATE TRIGGER spoilt BEFORE UPDATE ON bulk_recipients BEGIN SELECT RAISE(ABORT, 'spoilt'); END")
    assert [await desk.chunk(at=at), await desk.chunk(at=at)] == [True, False]
    assert (await desk.messages(), await desk.taken(asked)) == ([], [0])
    await say("DROP TRIGGER spoilt")
    assert await desk.chunk(at=at + timedelta(seconds=10))
    assert await desk.results(asked) == [("c-1", "queued", None)]


# --- turns ---


async def test_a_small_bulk_is_through_long_before_a_big_one_that_came_first(desk: Desk) -> None:
    """Which takes half a minute. All the time the channel is as busy as it may be, by a worker that looks once a
    second."""
    await desk.know(*names(300))
    await desk.know(*names(10), tenant="other")
    rates, began = {"email": 10}, now()
    big = await desk.ask(names(300))
    await desk.look_every_second(began, range(3), rates)
    small = await desk.ask(names(10), tenant="other")
    await desk.look_every_second(began, range(3, 60), rates)

    rows = await desk.messages()
    ends = {row.group_id: (row.next_attempt_at - began).total_seconds() for row in rows}
    assert ends[small] < 12
    assert ends[big] > 30
    assert paces(rows) == [timedelta(seconds=0.1)] * 309


async def test_bulks_without_a_rate_take_turns(desk: Desk) -> None:
    await desk.know(*names(12))
    big, small = await desk.ask(names(12)), await desk.ask(names(4))
    async with running(desk.db, chunk=3):
        await eventually(lambda: desk.through(big))
    made = sorted(await desk.messages(), key=lambda row: row.id)
    assert [row.group_id for row in made] == [big] * 3 + [small] * 3 + [big] * 3 + [small] + [big] * 6


@pytest.mark.usefixtures("small_chunks")
async def test_who_comes_later_stands_behind_who_waits(desk: Desk) -> None:
    first = await desk.ask(names(6))
    await desk.chunk()
    later = [await desk.ask(names(6)) for _ in range(2)]
    counts: list[list[int]] = []
    for _ in range(3):
        await desk.chunk()
        counts.append(await desk.taken(first, *later))
    assert counts == [[6, 0, 0], [6, 3, 0], [6, 3, 3]]


async def test_a_channel_that_is_booked_keeps_only_those_waiting_that_may_go_by_it(desk: Desk) -> None:
    await desk.know(*names(20), phone="+12025550123")
    await desk.ask(names(20))
    by_both = await desk.ask(names(2), channel=ChannelName.SMS, chain=(ChannelName.EMAIL,))
    by_text = await desk.ask(names(2), channel=ChannelName.SMS)
    rates, at = {"email": 1, "sms": 1}, now()
    assert [await desk.chunk(rates, at) for _ in range(3)] == [True, True, False]
    assert await desk.taken(by_both, by_text) == [0, 2]
    assert await desk.chunk(rates, at + timedelta(seconds=1))
    assert await desk.taken(by_both, by_text) == [2, 2]


async def test_a_bulk_of_two_channels_is_not_kept_out_by_those_of_one_each(desk: Desk) -> None:
    """Whose channels are never free at the same moment, unless somebody sees to it."""
    await desk.know(*names(600), phone="+12025550123")
    rates, began = {"email": 10, "sms": 10}, now()
    by_mail = await desk.ask(names(600))
    await desk.look_every_second(began, range(2), rates)
    by_text = await desk.ask(names(600), channel=ChannelName.SMS)
    await desk.look_every_second(began, range(2, 20), rates)
    by_both = await desk.ask(names(10), chain=(ChannelName.SMS,))
    for second in range(20, 40):
        await desk.look_every_second(began, range(second, second + 1), rates)
        if await desk.taken(by_both) == [10]:
            break
    taken = await desk.taken(by_both, by_mail, by_text)
    assert taken[0] == 10
    assert max(taken[1:]) < 600


async def test_a_chunk_books_no_channel_that_it_may_go_by_for_long(desk: Desk) -> None:
    await desk.know(*names(20))
    asked = await desk.ask(names(20), channel=ChannelName.SMS, chain=(ChannelName.EMAIL,))
    at = now()
    assert await desk.chunk({"sms": 100, "email": 1}, at)
    assert await desk.taken(asked) == [5]
    assert [row.next_attempt_at - at for row in await desk.messages()][-1] == timedelta(seconds=4)


# --- rates ---


def paces(rows: Sequence[sa.Row[Any]]) -> list[timedelta]:
    times: list[datetime] = [row.next_attempt_at for row in rows]
    return [later - earlier for earlier, later in pairwise(times)]


@pytest.mark.usefixtures("small_chunks")
async def test_messages_are_spaced_over_chunks_and_bulks_alike(desk: Desk) -> None:
    await desk.know(*names(7))
    both = [await desk.ask([*names(7), "nobody"]), await desk.ask(names(7))]
    await desk.take_through(*both, rates={"email": 4})
    rows = await desk.messages()
    assert [row.group_id for row in rows] == ([both[0]] * 3 + [both[1]] * 3) * 2 + both
    assert paces(rows) == [timedelta(seconds=0.25)] * 13


@pytest.mark.usefixtures("small_chunks")
async def test_a_bulk_that_waited_is_not_sent_in_a_burst(desk: Desk) -> None:
    await desk.know(*names(6))
    await desk.ask(names(6))
    assert await desk.chunk({"email": 10})
    late = sa.update(tables.leases).values(held_until=now() - timedelta(hours=1))  # nobody worked for an hour
    await desk.db.write(lambda conn: conn.execute(late))
    at = now()
    assert await desk.chunk({"email": 10}, at)
    rows = [row for row in await desk.messages() if row.recipient_id in {"c-3", "c-4", "c-5"}]
    assert rows[0].next_attempt_at >= at
    assert paces(rows) == [timedelta(seconds=0.1)] * 2


def sending(conn: sa.Connection, rates: Rates) -> list[str]:
    """Who is sent to now."""
    claimed = claim(conn, channel=ChannelName.EMAIL, lease_until=now() + LEASE, limit=100, rates=rates).messages
    return [message.recipient_id for message in claimed]


Late = Callable[..., Awaitable[None]]


@pytest.fixture
def late(desk: Desk) -> Late:
    """What time, or a retry, does to every message that waits; nobody has had a slot for an hour."""

    async def change(**columns: Any) -> None:
        waiting = sa.update(notifications).where(notifications.c.status == "queued").values(columns)
        long_ago = sa.update(tables.leases).values(held_until=now() - timedelta(hours=1))
        await desk.db.write(lambda conn: (conn.execute(waiting), conn.execute(long_ago)))

    return change


LOST: list[dict[str, Any]] = [
    {"error": "quiet-hours"},  # which end at one moment
    {"error": "smtp 451", "attempts": 1},  # of a provider that was down
    {"error": "paced", "overdue": timedelta(hours=1)},  # while nobody was running
]


@pytest.mark.parametrize("lost", LOST)
async def test_messages_that_are_due_at_one_moment_get_new_slots(desk: Desk, late: Late, lost: dict[str, Any]) -> None:
    rates = {"email": 1.0}
    await desk.know(*names(5))
    await desk.take_through(await desk.ask(names(5)), rates=rates)
    lost = dict(lost)
    await late(next_attempt_at=now() - lost.pop("overdue", timedelta(0)), **lost)
    assert await desk.db.write(lambda conn: sending(conn, rates)) == ["c-0"]
    waiting = [row for row in await desk.messages() if row.status == "queued"]
    assert [row.recipient_id for row in waiting] == names(5)[1:]
    assert {row.error for row in waiting} == {"paced"}
    assert paces(waiting) == [timedelta(seconds=1)] * 3


async def test_what_has_its_slot_keeps_it(desk: Desk, late: Late) -> None:
    """A second of slots has come since the last poll."""
    rates = {"email": 4.0}
    await desk.know(*names(4))
    await desk.take_through(await desk.ask(names(4)), rates=rates)
    await late(next_attempt_at=now() - timedelta(seconds=1))
    assert await desk.db.write(lambda conn: sending(conn, rates)) == names(4)


async def test_no_slot_is_given_to_what_its_recipient_holds_back_or_does_not_want(desk: Desk) -> None:
    ids = names(4)
    await desk.know(*ids)
    wishes = {
        "c-0": Preference(digests={"Marketing": "08:00"}),
        "c-1": Preference(channels={ChannelName.EMAIL: ChannelPreference(enabled=False)}),
    }
    for one, wish in wishes.items():
        await desk.db.write(lambda conn, one=one, wish=wish: Preferences(conn, TENANT).save(one, wish, 0))
    await desk.take_through(await desk.ask(ids), rates={"email": 1.0})
    assert await desk.db.write(lambda conn: sending(conn, {"email": 1.0})) == ["c-2"]  # in the first slot
    rows = {row.recipient_id: row for row in await desk.messages()}
    assert [(rows[one].status, rows[one].error) for one in ids] == [
        ("queued", "digest"),
        ("suppressed", "channel-disabled"),
        ("sending", "paced"),
        ("queued", "paced"),
    ]
    assert rows["c-3"].next_attempt_at - now() <= timedelta(seconds=1)


async def test_what_is_no_bulk_waits_for_no_slot(desk: Desk, late: Late) -> None:
    await desk.know(*names(3))
    await desk.take_through(await desk.ask(names(3)))
    await late(next_attempt_at=now(), group_id="")
    assert await desk.db.write(lambda conn: sending(conn, {"email": 1.0})) == names(3)


async def test_a_bulk_that_is_paced_over_days_is_still_retried(desk: Desk, late: Late) -> None:
    await desk.know("c-0")
    await desk.take_through(await desk.ask(["c-0"]), rates={"email": 1.0})
    await late(next_attempt_at=now(), created_at=now() - timedelta(days=3))

    def fails(conn: sa.Connection) -> None:
        (message,) = claim(conn, channel=ChannelName.EMAIL, lease_until=now() + LEASE, limit=1).messages
        settle(conn, [Settled(notification=message, outcome=Postponed("smtp 451"), at=now())])

    for _ in range(2):
        await desk.db.write(fails)
        (row,) = await desk.messages()
        assert (row.status, row.error) == ("queued", "smtp 451")
        await late(next_attempt_at=now())


def test_a_channel_goes_as_fast_as_the_slowest_of_its_providers_may(settings: Settings) -> None:
    known = settings.model_copy(update={"provider_rates": {"smtp": 7.0, "africas-talking": 20.0, "legacy": 3.0}})
    assert bulk_rates(known) == {"email": 7, "sms": 3}
    assert bulk_rates(known.model_copy(update={"sms_providers": ("africas-talking",)})) == {"email": 7, "sms": 20}


async def test_each_channel_has_its_own_rate(desk: Desk) -> None:
    await desk.know("s-1", "s-2", phone="+12025550123")
    await desk.know("e-1", "e-2")
    asked = await desk.ask(["s-1", "e-1", "s-2", "e-2"], channel=ChannelName.SMS, chain=(ChannelName.EMAIL,))
    await desk.take_through(asked, rates={"sms": 1})
    rows = await desk.messages()
    assert paces([row for row in rows if row.channel == "sms"]) == [timedelta(seconds=1)]
    assert paces([row for row in rows if row.channel == "email"]) == [timedelta(0)]


# --- over HTTP ---


def whoever_says_so(request: Request) -> Caller:
    return Caller(
        tenant=request.headers.get("x-tenant", TENANT),
        tenant_name="Default",
        subject=request.headers.get("x-sub", "a-1"),
        roles=frozenset({Role.ADMIN}),
    )


@pytest.fixture
async def client(db: Database, routed: Any) -> AsyncIterator[httpx.AsyncClient]:
    leases = Leases(db, tables.leases)
    changes = Changes(db=db, table=tables.changes, leases=leases)
    outbox = Outbox(db=db, table=tables.outbox, leases=leases, sidecar=FakeSidecar(), pubsub="pubsub")
    units = Units(db, Announcements(outbox=outbox, changes=changes))
    catalog = Catalog(db, Cache(sidecar=FakeSidecar(), store="statestore", changes=changes, name="templates"))
    bulks = Bulks(db=db, rates={"email": 10})
    app = routed(api.router, who=whoever_says_so, units=units, catalog=catalog, bulks=bulks)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.fixture(autouse=True)
async def offer(db: Database) -> None:
    """The template that is sent, published in Portuguese alone."""
    key = Key("Marketing", "offer", "pt")

    def work(conn: sa.Connection) -> None:
        own = Templates(conn, TENANT)
        own.create(key, Source(text="{{ drink }}"), {"drink": "Latte"}, author="a-1")
        own.publish(key, 1)

    await db.write(work)


def body(*ids: str, **changed: Any) -> dict[str, Any]:
    asked = {
        "channel": "email",
        "templateCategory": "Marketing",
        "templateName": "offer",
        "context": {"drink": "Latte"},
    }
    return asked | {"recipients": [{"recipientId": one} for one in ids]} | changed


async def test_a_bulk_is_accepted_and_can_be_followed(client: httpx.AsyncClient, desk: Desk) -> None:
    await desk.know(*names(4))
    accepted = await client.post(PATH, json=body(*names(4), "nobody"))
    assert (accepted.status_code, accepted.json()["total"]) == (202, 5)
    where = accepted.headers["location"]
    assert where == f"{PATH}/{accepted.json()['bulkId']}"
    waiting = (await client.get(where)).json()
    assert {"total": 5, "taken": 0, "etaSeconds": 1, "completedAt": None}.items() <= waiting.items()
    assert waiting["counts"]["pending"] == 5

    await desk.take_through(accepted.json()["bulkId"])
    await desk.move("c-0", "sent")
    await desk.move("c-1", "delivered")
    await desk.move("c-2", "bounced", error="unknown mailbox")
    under_way = (await client.get(where)).json()
    counts = {"pending": 0, "queued": 1, "sending": 0, "sent": 1, "delivered": 1, "bounced": 1, "failed": 1}
    assert under_way["counts"] == counts | {"suppressed": 0}
    assert (under_way["etaSeconds"], under_way["completedAt"]) == (1, None)


async def test_a_bulk_is_complete_when_its_last_attempt_has_ended(client: httpx.AsyncClient, desk: Desk) -> None:
    await desk.know("c-0")
    asked = await desk.ask(["c-0"])
    await desk.take_through(asked)
    await desk.move("c-0", "sent")
    ended = now() + timedelta(minutes=1)
    attempt = {"channel": "email", "provider": "smtp", "outcome": "delivered", "ended_at": ended}
    row = attempt | {"id": new_id(), "notification_id": (await desk.messages())[0].id}
    await desk.db.write(lambda conn: conn.execute(sa.insert(tables.attempts), row))
    over = (await client.get(f"{PATH}/{asked}")).json()
    assert over["etaSeconds"] is None
    assert datetime.fromisoformat(over["completedAt"]) == ended


async def test_a_bulk_of_nobody_reachable_is_complete_at_once(client: httpx.AsyncClient, desk: Desk) -> None:
    asked = await desk.ask(["nobody"])
    await desk.take_through(asked)
    over = (await client.get(f"{PATH}/{asked}")).json()
    assert over["counts"]["failed"] == 1
    assert over["completedAt"] is not None


async def test_results_are_paged_in_the_order_of_the_list_and_narrowed(client: httpx.AsyncClient, desk: Desk) -> None:
    await desk.know("c-1")
    asked = await desk.ask(["x", "c-1", "y", "z"])
    await desk.take_through(asked)
    path = f"{PATH}/{asked}/recipients"
    first = (await client.get(path, params={"limit": 2, "status": "failed"})).json()
    assert [one["recipientId"] for one in first["items"]] == ["x", "y"]
    last = (await client.get(path, params={"limit": 2, "status": "failed", "cursor": first["next"]})).json()
    assert ([one["recipientId"] for one in last["items"]], last["next"]) == (["z"], None)
    queued = (await client.get(path, params={"status": "queued"})).json()["items"]
    assert [(one["recipientId"], one["number"], one["status"], one["error"]) for one in queued] == [
        ("c-1", 1, "queued", None)
    ]
    assert queued[0]["notificationId"] == (await desk.messages())[0].id


async def test_bulks_are_listed_newest_first(client: httpx.AsyncClient, desk: Desk) -> None:
    asked = [await desk.ask(["c-1"]) for _ in range(3)]
    first = (await client.get(PATH, params={"limit": 2})).json()
    last = (await client.get(PATH, params={"limit": 2, "cursor": first["next"]})).json()
    assert [one["id"] for one in first["items"] + last["items"]] == asked[::-1]
    assert last["next"] is None
    assert {"templateCategory": "Marketing", "templateName": "offer", "total": 1}.items() <= first["items"][0].items()


@pytest.mark.parametrize(
    ("changed", "pointer"), [({"channel": "sms", "chain": ["email"]}, "/channel"), ({"chain": ["push"]}, "/chain")]
)
async def test_a_channel_for_which_the_template_has_no_words_is_refused_at_once(
    client: httpx.AsyncClient, db: Database, changed: dict[str, Any], pointer: str
) -> None:
    refused = await client.post(PATH, json=body("c-1", **changed))
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, pointer)
    assert await db.read(lambda conn: conn.execute(sa.select(bulks)).all()) == []


async def test_an_unknown_template_is_refused_at_once(client: httpx.AsyncClient, db: Database) -> None:
    refused = await client.post(PATH, json=body("c-1", templateName="other"))
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/templateName"
    assert await db.read(lambda conn: conn.execute(sa.select(bulks)).all()) == []


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"recipients": []}, "/recipients"),
        ({"recipients": [{"recipientId": "c"}] * 10_001}, "/recipients"),
        ({"recipients": [{"recipientId": "a\x00b"}]}, "/recipients/0/recipientId"),
        ({"recipients": [{"recipientId": "c", "context": {"n": 2**70}}]}, "/recipients/0/context"),
        ({"channel": "fax"}, "/channel"),
        ({"chain": ["email"]}, "/chain"),
        ({"chain": ["sms", "sms"]}, "/chain"),
        ({"templateName": "no such name"}, "/templateName"),
    ],
)
async def test_a_bad_body_is_refused_where_it_is_bad(
    client: httpx.AsyncClient, changed: dict[str, Any], pointer: str
) -> None:
    refused = await client.post(PATH, json=body("c-1", **changed))
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]


async def test_ten_thousand_recipients_fit_into_one_bulk(client: httpx.AsyncClient, db: Database) -> None:
    accepted = await client.post(PATH, json=body(*names(10_000)))
    assert (accepted.status_code, accepted.json()["total"]) == (202, 10_000)
    counted = sa.select(sa.func.count()).select_from(bulk_recipients)
    assert await db.read(lambda conn: conn.execute(counted).scalar_one()) == 10_000


async def test_a_key_sent_again_answers_the_same_bulk(client: httpx.AsyncClient, db: Database) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = await client.post(PATH, json=body("c-1"), headers=key)
    again = await client.post(PATH, json=body("c-1"), headers=key)
    assert again.json() == first.json()
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    refused = await client.post(PATH, json=body("c-2"), headers=key)
    assert (refused.status_code, refused.json()["errorType"]) == (422, "idempotency-mismatch")
    other = await client.post(PATH, json=body("c-2"), headers=key | {"x-sub": "a-2"})
    assert other.json()["bulkId"] != first.json()["bulkId"]
    assert len(await db.read(lambda conn: conn.execute(sa.select(bulks)).all())) == 2


@pytest.mark.parametrize("below", ["", "/recipients"])
async def test_a_bulk_of_another_tenant_is_not_shown(client: httpx.AsyncClient, desk: Desk, below: str) -> None:
    asked = await desk.ask(["c-1"])
    theirs = await client.get(f"{PATH}/{asked}{below}", headers={"x-tenant": "other"})
    assert (theirs.status_code, theirs.json()["errorType"]) == (403, "different-tenant")
    unknown = await client.get(f"{PATH}/{new_id()}{below}")
    assert (unknown.status_code, unknown.json()["errorType"]) == (404, "bulk-not-found")
    assert (await client.get(PATH, headers={"x-tenant": "other"})).json()["items"] == []
