"""A service's copy of all settings, in a table of its own. The back office is asked for all of them now and then, and
tells each change by event: the replica that takes it writes it down and into the change feed, which every replica
hears."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
import sqlalchemy as sa
import structlog
from pydantic import Field, JsonValue, StringConstraints, ValidationError

from chassis.changes.feed import Changes
from chassis.db import DATABASE_DOWN, Database, upsert
from chassis.edge.auth import TENANT
from chassis.events import CloudEvent
from chassis.flags.memory import KEY, Flags, Setting, told
from chassis.flags.provider import provide
from chassis.problems import Unavailable
from chassis.retry_delays import recheck_delay
from chassis.sidecar import Sidecar, Verdict
from chassis.wire import Wire

log = structlog.get_logger()

TOPIC, CHANGED = "settings", "setting.changed.v1"

_BACK_OFFICE, _METHOD = "backoffice-service", "settings-snapshot"
_EVERY_SECONDS = 300  # events tell sooner: this is for what one may have missed
_CONFIGURED = ("*", "*")  # tenant and key of the row that keeps what the back office was configured with

Key = Annotated[str, StringConstraints(pattern=KEY)]


class SettingTold(Wire):
    """`tenant` is "" where it concerns all; `value` is null where nothing is set any more, or it is passed over."""

    tenant: Annotated[str, Field(pattern=f"^$|{TENANT}")]
    key: Key
    version: Annotated[int, Field(ge=1)]
    value: JsonValue = None

    def setting(self) -> Setting:
        return Setting(self.tenant, self.key, self.version, self.value)


class SnapshotPage(Wire):
    """`next` is what to ask for as `after`, null on the last page."""

    items: tuple[SettingTold, ...]
    next: tuple[str, str] | None
    configured: dict[str, JsonValue]


def snapshot_table(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "settings_snapshot",
        metadata,
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("value", sa.Text, nullable=False),  # JSON
    )


class Snapshot:
    def __init__(self, *, flags: Flags, db: Database, table: sa.Table, changes: Changes, sidecar: Sidecar) -> None:
        self._flags = flags
        self._db = db
        self._table = table
        self._changes = changes
        self._sidecar = sidecar
        flags.follow(changes)

    async def load(self) -> None:
        """What was known last. Before the change feed begins."""
        for row in await self._db.read(lambda conn: conn.execute(sa.select(self._table)).all()):
            value = orjson.loads(row.value)
            if (row.tenant, row.key) == _CONFIGURED:
                self._flags.configured = value
            else:
                self._flags.put(Setting(row.tenant, row.key, row.version, value))
        provide(self._flags)

    async def run(self) -> None:
        """Ask the back office at once and then now and then, sooner while it doesn't answer; until cancelled."""
        failures = 0
        while True:
            try:
                await self._ask()
            except (*DATABASE_DOWN, Unavailable) as down:
                log.warning("settings.last_known", error=type(down).__name__)
                await asyncio.sleep(recheck_delay(failures).total_seconds())
                failures += 1
            else:
                failures = 0
                await asyncio.sleep(_EVERY_SECONDS)

    async def take(self, _topic: str, event: CloudEvent) -> None:
        """The handler of the topic `settings`."""
        if event.type == CHANGED:
            await self._write([SettingTold.model_validate(event.data).setting()])

    async def _ask(self) -> None:
        """Raises Unavailable where there is no whole answer."""
        after: Any = None
        while True:
            answer = await self._sidecar.invoke(_BACK_OFFICE, _METHOD, {"after": after})
            if answer.verdict is not Verdict.ANSWERED:
                raise Unavailable(_BACK_OFFICE)
            try:
                page = SnapshotPage.model_validate(answer.data)
            except ValidationError as cut:
                raise Unavailable(_BACK_OFFICE) from cut
            await self._write([one.setting() for one in page.items], page.configured)
            if (after := page.next) is None:
                return

    async def _write(self, settings: Sequence[Setting], configured: Mapping[str, Any] | None = None) -> None:
        """What is news; most often nothing is."""
        settings = [setting for setting in settings if self._flags.is_news(setting)]
        if configured is not None and configured != self._flags.configured:
            await self._db.write(lambda conn: self._put(conn, Setting(*_CONFIGURED, 0, configured), always=True))
            self._flags.configured = configured
        if settings and await self._db.write(lambda conn: self._put_and_tell(conn, settings)):
            self._changes.wake()

    def _put_and_tell(self, conn: sa.Connection, settings: Sequence[Setting]) -> bool:
        news = [setting for setting in settings if self._put(conn, setting)]
        self._changes.add_many(conn, [told(setting) for setting in news])
        return bool(news)

    def _put(self, conn: sa.Connection, setting: Setting, *, always: bool = False) -> bool:
        """False where what stands there is as new, or newer."""
        row = {**setting._asdict(), "value": orjson.dumps(setting.value).decode()}
        adding = upsert(conn, self._table).values(row)
        changing = adding.on_conflict_do_update(
            index_elements=["tenant", "key"],
            set_={"version": adding.excluded.version, "value": adding.excluded.value},
            where=None if always else self._table.c.version < adding.excluded.version,
        )
        return conn.execute(changing).rowcount == 1
