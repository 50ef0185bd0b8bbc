"""The sender: a durable loop over rows. What was just written is sent at once; a poll takes up what was left lying.

A row in hand is leased. Whatever dies, its lease runs out and the poll of any process sends it again: at least once,
under the same notification id, which is the Message-ID and the push provider's idempotency key.

Within one process a row is never in hand twice: it is queued when it comes into `_leases`, the poll takes up nothing
that is there, and it leaves when its end is written down, or unsent when its lease has become too short.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

import sqlalchemy as sa
import structlog
from opentelemetry.trace import SpanKind

from chassis.db import Database
from chassis.ids import now
from chassis.problems import DATABASE_DOWN, Unavailable
from chassis.tasks import Tasks
from chassis.telemetry import continued, meter, told_of, tracer
from chassis.wakeups import LINGER, Wakeup
from notification.announcements import Announcements
from notification.channels import Channel, Channels
from notification.domain import WRITE_DOWN, ChannelName, Message, Notification
from notification.outcomes import Delivered, Outcome, Postponed, Refused, Settled
from notification.queue.bulk_rate import Rates
from notification.queue.claim import Claimed, claim, due_channels, give_back, posting, take_back
from notification.queue.record_outcome import early, settle
from notification.sending.compose import Wording

log = structlog.get_logger()

_QUEUED = 64  # waiting for one channel's workers at most; the rest waits in the database, where a crash costs no lease
_FEW = _QUEUED // 2  # now there is room for more
_POLL = 1.0
_AGAIN = 0.5  # after the database was down
_DRAIN = 5.0  # seconds for what is under way at shutdown

_delay = meter.create_histogram("notification.delay", unit="s", description="From the event to the end of an attempt")

Queue = asyncio.Queue[Notification | None]


class Sender:
    def __init__(
        self,
        *,
        db: Database,
        channels: Channels,
        wording: Wording,
        announcements: Announcements,
        rates: Rates = MappingProxyType({}),
        lease: timedelta = timedelta(seconds=30),
        send_within: timedelta = timedelta(seconds=20),
    ) -> None:
        """`rates` are the bulks'. A row is this process's to send for the time of a `lease`. One send is cut off after
        `send_within`: with that much of its lease left, and a little to write it down, a row can be sent before anybody
        else may take it."""
        self._db = db
        self._rates = rates
        self._lease, self._send_within = lease, send_within
        self._channels = channels
        self._wording = wording
        self._announcements = announcements
        self._queues: dict[ChannelName, Queue] = {name: asyncio.Queue() for name in channels}
        self._leases: dict[str, datetime] = {}  # of what is in hand: queued here, being sent, or not yet written down
        self._settled: list[Settled] = []
        self._woken = asyncio.Event()
        self._wakeup = Wakeup(poll=_POLL)
        self._stopping = False
        self._all_ended = False  # no attempt is under way, and none will be
        self._workers = Tasks()
        self._loops = Tasks()

    def wake(self) -> None:
        """Rows that are due have been committed. What nobody says is found by the poll."""
        self._wakeup.set()

    async def take_back(self) -> None:
        """Before anything else. On PostgreSQL other replicas may be alive, and leases say who they are."""
        if self._db.exclusive:
            await self._db.write(take_back)

    async def start(self) -> None:
        for name, channel in self._channels.items():
            for number in range(channel.concurrency):
                self._workers.spawn(self._work(channel, self._queues[name]), name=f"sender.{name}.{number}")
        self._loops.spawn(self._write_down_for_ever(), name="sender.results")
        self._loops.spawn(self._poll_for_ever(), name="sender.poll")

    async def stop(self) -> None:
        """Sends under way are finished and written down; what has not begun is given back."""
        self._stopping = True
        self._wakeup.set()
        unsent = self._taken_out()
        for name, channel in self._channels.items():
            for _ in range(channel.concurrency):
                self._queues[name].put_nowait(None)
        await self._workers.drain(within=_DRAIN)
        self._all_ended = True
        self._woken.set()
        await self._loops.drain(within=_DRAIN)
        unsent += self._taken_out()  # what a poll under way brought meanwhile
        if unsent:
            with suppress(*DATABASE_DOWN):  # their leases run out by themselves
                await self._db.write(lambda conn: give_back(conn, unsent))
        for channel in self._channels.values():
            await channel.close()

    def _taken_out(self) -> list[Notification]:
        """What nobody has begun to send, out of the queues."""
        unsent: list[Notification] = []
        for queue in self._queues.values():
            while not queue.empty():
                if (message := queue.get_nowait()) is not None:
                    unsent.append(message)
        return unsent

    # --- sending ---

    async def _work(self, channel: Channel, queue: Queue) -> None:
        while (notification := await queue.get()) is not None:
            if queue.qsize() == _FEW:
                self._wakeup.set()
            if self._leases[notification.id] - now() < self._send_within + WRITE_DOWN:
                del self._leases[notification.id]  # waited too long: somebody may take it before we have done
                continue
            with (
                continued(notification.traceparent),
                tracer.start_as_current_span("notification.send", kind=SpanKind.PRODUCER) as span,
                told_of(tenant=notification.tenant),
            ):
                outcome = await self._attempt(channel, notification)
                keys = {"channel": notification.channel.value, "status": type(outcome).__name__.lower()}
                span.set_attributes({**keys, "notification.id": notification.id, "subject.id": notification.subject_id})
                _log_outcome(notification, outcome)
            at = now()
            _delay.record((at - notification.created_at).total_seconds(), keys)
            self._settled.append(Settled(notification=notification, outcome=outcome, at=at))
            self._woken.set()
            await asyncio.sleep(0)  # a channel that never waits would keep everybody else waiting

    async def _attempt(self, channel: Channel, notification: Notification) -> Outcome:
        asked = notification.provider

        async def ask(provider: str) -> None:
            nonlocal asked
            if provider != asked:
                await self._db.write(lambda conn: posting(conn, notification, provider))
                asked = provider

        try:
            async with asyncio.timeout(self._send_within.total_seconds()):
                message = await self._wording.message(notification)
                if not isinstance(message, Message):
                    return message
                outcome = await channel.send(replace(message, provider=notification.provider, posting=ask))
                return outcome.without(message.tokens) if isinstance(outcome, Delivered) else outcome
        except TimeoutError:  # whoever was asked last may have it
            return Postponed("timed out", provider=asked)
        except (*DATABASE_DOWN, Unavailable) as down:
            return Postponed(f"not worded: {type(down).__name__}", provider=notification.provider)
        except Exception as error:  # noqa: BLE001  a loop must not die of one message
            # Without its text, which may hold the address.
            log.error(  # noqa: TRY400
                "notification.broke", notification_id=notification.id, error=type(error).__name__
            )
            return Postponed(f"unexpected: {type(error).__name__}", provider=asked)

    # --- writing down ---

    async def _write_down_for_ever(self) -> None:
        """One transaction for all that ended while the last one was committing."""
        several = False
        while self._settled or not self._all_ended:
            await self._woken.wait()
            if several and not self._all_ended:
                await asyncio.sleep(LINGER)
            self._woken.clear()
            batch, self._settled = self._settled, []
            several = len(batch) > 1
            try:
                await self._settle_all(batch)
            except DATABASE_DOWN as down:
                log.warning("sender.waiting", error=type(down).__name__)
                self._settled = batch + self._settled
                await asyncio.sleep(_AGAIN)
                self._woken.set()
                continue
            for attempt in batch:
                self._leases.pop(attempt.notification.id, None)

    async def _settle_all(self, batch: list[Settled]) -> None:
        """One that can't be written down must not take the others with it, nor be sent again and again: all that is
        kept of it is how it ended."""
        try:
            if batch:
                await self._settle(batch)
        except DATABASE_DOWN:
            raise
        except Exception:
            if len(batch) > 1:
                for attempt in batch:
                    await self._settle_all([attempt])
                return
            (attempt,) = batch
            log.exception("sender.result_unwritable", notification_id=attempt.notification.id)
            if attempt.outcome != (bare := _bare(attempt.outcome)):
                await self._settle_all([replace(attempt, outcome=bare)])

    async def _settle(self, batch: list[Settled]) -> None:
        def work(conn: sa.Connection) -> None:
            self._announcements.add(conn, settle(conn, batch))
            self._announcements.add_rows(conn, early(conn, batch))

        await self._db.write(work)
        self._announcements.wake()
        if any(attempt.notification.chain and not isinstance(attempt.outcome, Delivered) for attempt in batch):
            self._wakeup.set()  # the next channel's turn

    # --- taking up ---

    async def _poll_for_ever(self) -> None:
        while not self._stopping:
            self._wakeup.clear()
            taken = 0
            try:
                taken = await self._poll()
            except DATABASE_DOWN as down:
                log.warning("sender.waiting", error=type(down).__name__)
                await asyncio.sleep(_AGAIN)
            except Exception:
                log.exception("sender.poll_failed")
                await asyncio.sleep(_AGAIN)
            await self._wakeup.sleep(several=taken > 1)

    async def _poll(self) -> int:
        """Take up what is due, each channel's oldest first, and say how much it was. A channel has a room of its own:
        what one that hangs can't take must not keep the others waiting."""
        in_hand = self._late()
        due = await self._db.read(lambda conn: due_channels(conn, in_hand))
        taken = 0
        for channel in due & self._queues.keys():
            if (room := _QUEUED - self._queues[channel].qsize()) > 0:
                taken += await self._take_up(channel, room)
        return taken

    async def _take_up(self, channel: ChannelName, room: int) -> int:
        in_hand, until = self._late(), now() + self._lease

        def work(conn: sa.Connection) -> Claimed:
            return claim(
                conn,
                channel=channel,
                lease_until=until,
                limit=room,
                in_hand=in_hand,
                rates=self._rates,
                announce=self._announcements.add,
            )

        claimed = await self._db.write(work)
        self._announcements.wake()
        if claimed.more:
            self._wakeup.set()
        for notification in claimed.messages:
            self._leases[notification.id] = until
            self._queues[notification.channel].put_nowait(notification)
        return len(claimed.messages)

    def _late(self) -> list[str]:
        """What is in hand, and may look abandoned before it is out of it. Usually nothing: statements stay short."""
        soon = now() + self._send_within
        return [key for key, until in self._leases.items() if until < soon]


def _bare(outcome: Outcome) -> Outcome:
    return Delivered(provider=outcome.provider) if isinstance(outcome, Delivered) else Refused("unwritable result")


def _log_outcome(notification: Notification, outcome: Outcome) -> None:
    log.info(
        "notification.sent" if isinstance(outcome, Delivered) else "notification.not_sent",
        subject_id=notification.subject_id,
        notification_id=notification.id,
        channel=notification.channel.value,
        template=notification.template,
        status=type(outcome).__name__.lower(),
        attempt=notification.attempts + 1,
        **({} if isinstance(outcome, Delivered) else {"error": getattr(outcome, "error", "suppressed")}),
    )
