"""A migration happens whole or not at all, whatever kills it."""

import importlib
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from chassis import migrations

FIRST = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0001", None
def upgrade():
    op.create_table("things", sa.Column("id", sa.Integer, primary_key=True))
"""
BROKEN = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0002", "0001"
def upgrade():
    op.add_column("things", sa.Column("name", sa.String(8)))
    op.execute("INSERT INTO things (id, name) VALUES (1, 'a')")
    raise RuntimeError("killed here")
"""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A service's package with one good version."""
    package = tmp_path / "widgets"
    (package / "migrations").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "migrations" / "0001_first.py").write_text(FIRST)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "widgets", raising=False)
    return importlib.import_module("widgets")


def columns(url: str) -> set[str]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as conn:
        return {column["name"] for column in sa.inspect(conn).get_columns("things")}


def test_a_version_that_breaks_in_the_middle_leaves_nothing_and_can_be_tried_again(
    service: types.ModuleType, tmp_path: Path
):
    url = f"sqlite:///{tmp_path}/widgets.db"
    migrations.upgrade(url, service, sa.MetaData())
    second = Path(service.__path__[0]) / "migrations" / "0002_second.py"
    second.write_text(BROKEN)

    for _ in range(2):
        with pytest.raises(RuntimeError, match="killed here"):
            migrations.upgrade(url, service, sa.MetaData())
        assert columns(url) == {"id"}

    second.write_text(BROKEN.replace('    raise RuntimeError("killed here")\n', ""))
    migrations.upgrade(url, service, sa.MetaData())
    assert columns(url) == {"id", "name"}


def test_a_database_that_a_later_release_has_migrated_is_served_as_it_is_and_said_so(
    service: types.ModuleType, tmp_path: Path
):
    url = f"sqlite:///{tmp_path}/widgets.db"
    second = Path(service.__path__[0]) / "migrations" / "0002_second.py"
    second.write_text(BROKEN.replace('    raise RuntimeError("killed here")\n', ""))
    migrations.upgrade(url, service, sa.MetaData())

    second.unlink()  # rolled back
    with capture_logs() as logs:
        migrations.upgrade(url, service, sa.MetaData())

    assert [(line["event"], line["database"], line["code"]) for line in logs] == [
        ("database.newer_than_code", "0002", "0001")
    ]
    assert columns(url) == {"id", "name"}


def test_a_deployments_job_migrates_and_its_pods_wait_for_that(service: types.ModuleType, tmp_path: Path):
    """As k8s/base runs both, for processes of their own."""
    folder = Path(service.__path__[0])
    (folder / "tables.py").write_text("import sqlalchemy as sa\nmetadata = sa.MetaData()\n")
    url = f"sqlite:///{tmp_path}/widgets.db"
    told = os.environ | {"WIDGETS_DATABASE_URL": url, "PYTHONPATH": str(folder.parent)}
    command = [sys.executable, "-m", "chassis.migrations", "widgets"]

    with subprocess.Popen([*command, "--wait"], env=told) as waiting:  # noqa: S603  this interpreter
        assert not migrations.current(url, service)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=2)
        subprocess.run(command, env=told, check=True)  # noqa: S603
        assert waiting.wait(timeout=30) == 0

    assert migrations.current(url, service)
    assert columns(url) == {"id"}
