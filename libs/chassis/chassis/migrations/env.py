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
        context.configure(connection=connection, target_metadata=metadata, render_item=_render, compare_type=False)
        with context.begin_transaction():
            if not sqlite:  # one replica migrates, the others wait and find it done
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            context.run_migrations()


main()
