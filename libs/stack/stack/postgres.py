"""A PostgreSQL for tests: in a container where an engine answers and has the image or can get it, else from this
system's packages. Nothing of it outlives whoever started it.
"""

import gc
import os
import shutil
import signal
import subprocess
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import sqlalchemy as sa
from psycopg import sql

from stack import local
from stack.processes import Processes, Reaper

# Empty: no container, whoever answers.
IMAGE = os.environ.get("TEST_POSTGRES_IMAGE", "postgres:16-alpine")
READY = 60.0
USER = "postgres"  # as Debian's package makes it


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """A running server; `url` is its owner's."""

    url: str

    def create(self, name: str) -> str:
        """The URL of a new, empty database."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return sa.make_url(self.url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def running(*, under: Path | None = None, settings: Mapping[str, str] | None = None) -> Generator[Postgres]:
    """Its data is in memory where there is room (`local.scratch`), or under a folder that anybody may enter: a bench
    wants its commits on a disk. `settings` are the server's own; who names some gets no container."""
    with _installed(under, settings) if settings or not container_will_do() else _contained() as url:
        yield Postgres(url=url)


def find() -> Path | None:
    """The folder of PostgreSQL's programs: from PATH, else the newest one where Debian keeps them beside it."""
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    kept = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((program.parent for program in kept), key=lambda folder: int(folder.parent.name), default=None)


def container_will_do() -> bool:
    """Whether a container engine answers and has the image, if need be after a pull."""
    if not IMAGE:
        return False
    # Imported here: the services' own images have no testcontainers.
    from docker.errors import DockerException, ImageNotFound  # noqa: PLC0415
    from testcontainers.core.docker_client import DockerClient  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # where nobody answers, Docker's client forgets its socket
        try:
            images = DockerClient().client.images
            try:
                images.get(IMAGE)
            except ImageNotFound:
                images.pull(IMAGE)
        except DockerException:
            return False
        finally:
            gc.collect()
    return True


@contextmanager
def _contained() -> Generator[str]:
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415

    with PostgresContainer(IMAGE, driver=None) as container:
        yield container.get_connection_url()


@contextmanager
def _installed(under: Path | None = None, settings: Mapping[str, str] | None = None) -> Generator[str]:
    """A server of our own. It syncs its commits like any other: what a test kills must find them again."""
    # Not among pytest's folders: they are closed to everybody but root, and as root PostgreSQL doesn't run.
    with TemporaryDirectory(prefix="brewline-postgres-", dir=under or local.scratch()) as folder:
        run, port = Path(folder).resolve(), local.free_port()
        if os.geteuid() == 0:
            shutil.chown(run, USER)
        processes = Processes(run, logs=run / "logs", cwd=run)
        reaper = Reaper(run)
        url = f"postgresql://{USER}@{local.HOST}:{port}/postgres"
        try:
            _initialise(run / "data")
            processes.start("postgres", _server(port=port, data=run / "data", settings=settings or {}))
            processes.wait_for("postgres", lambda: _serves(url), within=READY)
            yield url
        finally:
            if server := processes.started.get("postgres"):
                server.send_signal(signal.SIGINT)  # at SIGTERM it would wait for a client that has forgotten to leave
            processes.end()
            reaper.dismiss()


def _initialise(data: Path) -> None:
    done = subprocess.run(_initdb(data), cwd="/", capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise local.LocalError(f"initdb failed: {done.stderr.strip()[-500:]}")


def _initdb(data: Path) -> list[str]:
    # What it makes need not be on disk yet: nobody has been promised anything.
    how = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
    return _command("initdb", f"--pgdata={data}", f"--username={USER}", *how)


def _server(*, port: int, data: Path, settings: Mapping[str, str]) -> list[str]:
    told = {"listen_addresses": local.HOST, "unix_socket_directories": "", **settings}
    words = [word for name, value in told.items() for word in ("-c", f"{name}={value}")]
    return _command("postgres", "-D", str(data), "-p", str(port), *words)


def _command(program: str, *words: str) -> list[str]:
    if (folder := find()) is None:
        raise local.LocalError("PostgreSQL is missing: run `make setup`")
    # It doesn't run as root.
    user = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
    return [*(user if os.geteuid() == 0 else ()), str(folder / program), *words]


def _serves(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
