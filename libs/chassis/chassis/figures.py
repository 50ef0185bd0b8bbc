"""Figures that only the database knows, such as how much waits: read as often as metrics leave this process, and not at
all where none do. Nothing of it is done for a request."""

import asyncio
from collections.abc import Callable

import sqlalchemy as sa
import structlog

from chassis.db import DATABASE_DOWN, Database
from chassis.telemetry import exports_metrics, seconds_between_exports

log = structlog.get_logger()

Figures = Callable[[sa.Connection], None]


async def keep_figures(db: Database, *reading: Figures) -> None:
    """A loop without an end. Each of `reading` is cheap (an index tells all it asks for) and sets its gauges."""
    while exports_metrics():
        for figures in reading:
            try:
                await db.read(figures)
            except DATABASE_DOWN as down:
                log.warning("figures.postponed", error=type(down).__name__)
            except Exception:
                log.exception("figures.failed")
        await asyncio.sleep(seconds_between_exports())
