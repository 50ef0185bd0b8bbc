"""The notification service's own figures."""

import sqlalchemy as sa

from chassis.telemetry import meter
from notification.domain import ChannelName
from notification.tables import notifications

dead_letters = meter.create_counter(
    "dead_letters_total", description="Events that an app could not process, by app and topic"
)

_queued = meter.create_gauge("notifications_queued", description="Messages that wait to be sent, by channel")


def figures(conn: sa.Connection) -> None:
    """For `chassis.figures`: what waits is in an index of its own."""
    counted = dict(conn.execute(_COUNT).tuples().all())
    for channel in ChannelName:
        _queued.set(counted.get(channel.value, 0), {"channel": channel.value})


_COUNT = (
    sa.select(notifications.c.channel, sa.func.count())
    .where(notifications.c.next_attempt_at.is_not(None))
    .group_by(notifications.c.channel)
)
