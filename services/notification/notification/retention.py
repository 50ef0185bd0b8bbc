"""Throws out what is only needed for a while. All the rest are records: see docs/operations.md."""

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from chassis.retention import Expiry
from notification.tables import early_receipts, event_processing, keys, password_resets

_KEPT: dict[sa.Column[Any], timedelta] = {
    keys.c.created_at: timedelta(hours=24),
    # One whose message is still unknown by then is of none of ours.
    early_receipts.c.received_at: timedelta(days=3),
    # An event may come again for as long as brokers and producers keep it; after that its effects alone refuse it.
    event_processing.c.processed_at: timedelta(days=30),
    # A link is good for an hour, and those of the last hour are counted.
    password_resets.c.created_at: timedelta(days=1),
}

EXPIRIES = tuple(Expiry.of(column, keep) for column, keep in _KEPT.items())
