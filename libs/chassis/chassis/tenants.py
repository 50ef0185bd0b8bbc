"""A tenant's rows. Every store is made for one tenant; what it misses may be another's."""

from typing import Any

import sqlalchemy as sa


def elsewhere(conn: sa.Connection, table: sa.Table, tenant: str, **key: Any) -> bool:
    """Whether the row under `key` that `tenant` has missed is another's: the one question that tells "not yours" from
    "there is none". A row of its own that is there by now came later."""
    same = [table.c[name] == value for name, value in key.items()]
    return conn.execute(sa.select(sa.true()).where(*same, table.c.tenant != tenant).limit(1)).first() is not None
