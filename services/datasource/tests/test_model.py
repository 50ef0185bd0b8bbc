"""Whatever happens at INN8, to its answers and to our process: after one clean sync we have what INN8 has, and have
told of each real change once."""

import asyncio
import shutil
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from chassis.ids import now
from chassis.sidecar import Answer, SidecarDown
from datasource import tables
from datasource.domain import Entity, Mode, SyncRunning
from datasource.mapping import Invalid, transform
from sandbox.inn8_rows import stamp
from stack.examples import examples

MEMBERS = {
    Entity.CLIENTS: ("fullName", ["Ada", "Grace", None]),
    Entity.SECURITIES: ("symbol", ["A", "B", ""]),
    Entity.PORTFOLIOS: ("clientId", ["C-000001", "C-NEW", "no id"]),
    Entity.TRANSACTIONS: ("amount", ["1.00", "2.00", "much"]),
}
# Beside rows that are there from the beginning one that isn't. The first of each is never deleted: a source that shows
# nothing at all is not believed.
ROW_IDS = {
    entity: [f"{entity[0].upper()}-00000{n}" for n in (1, 2, 7)] + [f"{entity[0].upper()}-NEW"] for entity in Entity
}
FAULTS: list[Answer | Exception] = [
    Answer(status=500, data=None),
    Answer(status=503, data=None),
    Answer(status=429, data=None, retry_after="1"),
    Answer(status=401, data=None),
    Answer(status=200, data=None),
    Answer(status=200, data={"items": "garbage", "next": None}),
    SidecarDown(),
]

entities, modes = st.sampled_from([*Entity]), st.sampled_from([*Mode])
seconds_late = st.sampled_from([0, 0, 5, 250])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), entities, st.integers(0, 3), st.integers(0, 2), seconds_late),
        st.tuples(st.just("delete"), entities, st.integers(1, 3)),
        st.tuples(st.just("fault"), st.integers(0, 3), st.sampled_from(FAULTS)),
        st.tuples(st.just("sync"), entities, modes),
        st.tuples(st.just("kill"), entities, modes, st.integers(1, 4), st.booleans()),
        st.tuples(st.just("restart")),
    ),
    min_size=3,
    max_size=14,
)


class World:
    """INN8, and a process of ours that may be replaced by the next."""

    def __init__(self, sidecar: Any) -> None:
        self.sidecar = sidecar

    async def step(self, made: Any, step: tuple[Any, ...]) -> None:
        match step:
            case ("put", entity, row, value, late):
                member, values = MEMBERS[entity]
                at = stamp(now() - timedelta(seconds=late))
                self.sidecar.inn8.put(entity, ROW_IDS[entity][row], {member: values[value], "updatedAt": at})
            case ("delete", entity, row):
                self.sidecar.inn8.records(entity).delete(ROW_IDS[entity][row])
            case ("fault", after, fault):
                self.sidecar.instead = [None] * after + [fault]
            case ("sync", entity, mode):
                with suppress(SyncRunning):
                    await made.sync(entity, mode)
            case ("kill", entity, mode, writes, committed):
                await self._kill(made, entity, mode, writes, committed=committed)
            case _:
                await made.syncs.sync_all()

    async def _kill(self, made: Any, entity: Entity, mode: Mode, writes: int, *, committed: bool) -> None:
        """The process dies at its so-many-th transaction: before it, or right after its commit."""
        write, left = made.db.write, writes

        async def dying(work: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0 or (left == 0 and not committed):
                raise asyncio.CancelledError
            done = await write(work)
            if left == 0:
                raise asyncio.CancelledError
            return done

        made.db.write = dying
        with suppress(asyncio.CancelledError, SyncRunning):
            await made.sync(entity, mode)


async def _live(world: World, parts: Any, steps: list[tuple[Any, ...]]) -> None:
    lives: list[list[tuple[Any, ...]]] = [[]]
    for step in steps:
        lives[-1].append(step)
        if step[0] in {"kill", "restart"}:
            lives.append([])
    for life in lives:
        async with parts() as made:
            await made.runs.release_all()
            for step in life:
                await world.step(made, step)
    world.sidecar.instead = []
    async with parts() as made:
        await made.runs.release_all()
        for entity in Entity:
            assert (await made.sync(entity, Mode.FULL)).status in {"Success", "PartialSuccess"}
        for entity in Entity:
            await _same(world, made, entity)
        await _told(made)


async def _same(world: World, made: Any, entity: Entity) -> None:
    """Our tables are INN8's, and what can't be taken is in quarantine."""
    good, bad = {}, set()
    for row_id, row in world.sidecar.inn8.records(entity)._rows.items():
        try:
            good[row_id] = transform(entity, row).values
        except Invalid:
            bad.add(row_id)
    rows = await made.rows(entity)
    ours = {row_id: {name: row[name] for name in good[row_id]} for row_id, row in rows.items() if row_id in good}
    assert ours == good
    assert rows.keys() - good.keys() <= bad  # what was good once stays as it was
    items = sa.select(tables.quarantine.c.item).where(tables.quarantine.c.entity == entity)
    assert set(await made.db.read(lambda conn: conn.execute(items).scalars().all())) == bad


async def _told(made: Any) -> None:
    """Versions without a gap, no two events that say the same, and the last of each is what we have."""
    told: dict[str, list[dict[str, Any]]] = {}
    for subject, data in await made.events():
        told.setdefault(subject, []).append(data)
    rows = await made.rows(Entity.CLIENTS)
    for subject, events in told.items():
        assert [event["version"] for event in events] == list(range(1, len(events) + 1))
        assert (rows[subject]["name"] if subject in rows else None) == (
            None if events[-1]["deleted"] else events[-1]["name"]
        )
    assert rows.keys() <= told.keys()


@pytest.mark.hypothesis
def test_after_one_clean_sync_we_have_what_inn8_has_whatever_happened(parts, sidecar, database, migrated):
    @examples(15, derandomize=True)
    @given(steps=STEPS)
    def probe(steps: list[tuple[Any, ...]]) -> None:
        for file in database.parent.glob("datasource.db*"):
            file.unlink()
        shutil.copy(migrated, database)
        sidecar.inn8.forget()
        sidecar.instead, sidecar.asked = [], []
        asyncio.run(_live(World(sidecar), parts, steps))

    probe()


async def test_the_model_sees_what_is_missing(parts, sidecar):
    """It is worth something only if it fails."""
    async with parts() as made:
        await made.syncs.sync_all()
        sidecar.inn8.put("clients", "C-000001", {"fullName": "Somebody Else"})
        with pytest.raises(AssertionError):
            await _same(World(sidecar), made, Entity.CLIENTS)
