"""Run by Alembic."""

from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from sqlalchemy.pool import NullPool

from chassis.db import Timestamp

_MIGRATION_LOCK = 7_259_108  # any number that is only ours


def _render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """How `alembic revision --autogenerate` writes our own column type."""
    return "Timestamp()" if kind == "type" and isinstance(item, Timestamp) else False


def main() -> None:
    url: sa.URL = context.config.attributes["url"]
    metadata: sa.MetaData = context.config.attributes["metadata"]
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            render_item=_render,
            compare_type=False,
            transactional_ddl=True,  # SQLite can too
        )
        with context.begin_transaction():
            # All or nothing: Python's driver would begin no transaction before the first row is written. One replica
            # migrates, the others wait and find it done.
            lock = "BEGIN IMMEDIATE" if sqlite else f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"
            connection.exec_driver_sql(lock)
            context.run_migrations()


main()
