"""Alembic for every service: one `env.py` here, the versions in each service's own `migrations/`."""

import importlib.resources
from types import ModuleType

import sqlalchemy as sa
from alembic import command
from alembic.config import Config


def config(url: str | sa.URL, package: ModuleType, metadata: sa.MetaData) -> Config:
    """Alembic's configuration for the service `package`, whose versions lie in its `migrations/`."""
    made = Config()
    made.set_main_option("script_location", str(importlib.resources.files(__name__)))
    made.set_main_option("version_locations", str(importlib.resources.files(package) / "migrations"))
    made.set_main_option("path_separator", "os")
    made.attributes["url"] = _sync(url)
    made.attributes["metadata"] = metadata
    return made


def upgrade(url: str | sa.URL, package: ModuleType, metadata: sa.MetaData) -> None:
    """Bring the database to the newest version. Safe to run from several replicas at once."""
    command.upgrade(config(url, package, metadata), "head")


def _sync(url: str | sa.URL) -> sa.URL:
    url = sa.make_url(url)
    return url.set(drivername="sqlite+pysqlite" if url.get_backend_name() == "sqlite" else "postgresql+psycopg")
