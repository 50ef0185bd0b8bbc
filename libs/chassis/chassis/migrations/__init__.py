"""Alembic for every service: one `env.py` here, the versions in each service's own `migrations/`."""

import importlib.resources
from types import ModuleType
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from alembic.config import Config

log = structlog.get_logger()

# Imported only where there is something to migrate: it takes 11 MB.


def config(url: str | sa.URL, package: ModuleType, metadata: sa.MetaData) -> "Config":
    """Alembic's configuration for the service `package`, whose versions lie in its `migrations/`."""
    from alembic.config import Config  # noqa: PLC0415

    made = Config()
    made.set_main_option("script_location", str(importlib.resources.files(__name__)))
    made.set_main_option("version_locations", str(importlib.resources.files(package) / "migrations"))
    made.set_main_option("path_separator", "os")
    made.attributes["url"] = _sync(url)
    made.attributes["metadata"] = metadata
    return made


def upgrade(url: str | sa.URL, package: ModuleType, metadata: sa.MetaData) -> None:
    """Bring the database to the newest version. Safe to run from several replicas at once. One that a later release has
    migrated is left as it is: a rollback serves with it, and each migration can be read by the release before."""
    known, newest = _version(url), _newest(package)
    if known is not None and known >= newest:
        if known > newest:
            log.warning("database.newer_than_code", database=known, code=newest)
        return
    from alembic import command  # noqa: PLC0415

    command.upgrade(config(url, package, metadata), "head")


def current(url: str | sa.URL, package: ModuleType) -> bool:
    """Whether the database has every version of `package`, or is newer still."""
    version = _version(url)
    return version is not None and version >= _newest(package)


def _version(url: str | sa.URL) -> str | None:
    """Of the database; None where there is none yet."""
    engine = sa.create_engine(_sync(url), poolclass=NullPool, hide_parameters=True)
    try:
        with engine.connect() as connection:
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    except DBAPIError:
        return None  # whoever migrates says what is wrong


def _newest(package: ModuleType) -> str:
    """Of the versions of `package`: their files' names begin with their numbers."""
    versions = importlib.resources.files(package) / "migrations"
    return max(file.name for file in versions.iterdir() if file.name[:4].isdigit())[:4]


def _sync(url: str | sa.URL) -> sa.URL:
    url = sa.make_url(url)
    return url.set(drivername="sqlite+pysqlite" if url.get_backend_name() == "sqlite" else "postgresql+psycopg")
