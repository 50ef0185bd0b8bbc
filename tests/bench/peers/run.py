"""The bench's peers, started and asked: Restate and DBOS, each with two bare steps and with the same order as ours.

Everything runs on this machine, each process once; what they are told besides their addresses stands in their own
files. `tools/setup.sh bench` gets them.
"""

import contextlib
import itertools
import json
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import psycopg
from yarl import URL

from stack import local
from stack.eventually import eventually
from stack.local import LocalError
from stack.processes import Processes, Reaper
from stack.sidecars import Stack

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[2]
_INSTALLED = _ROOT / "tools" / "bin" / "peers"
_PYTHON = _INSTALLED / "venv" / "bin" / "python"
_READY = 60.0  # seconds
_DELIVERED_WITHIN = 60.0  # seconds after the last order, for the last mail
Addresses = Mapping[str, str]


class Missing(LocalError):
    """A peer is not on this machine; the others can be measured."""


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """The outside world: one of a stack's, or that of `sandbox`, whose process is then counted with a peer's."""

    url: str
    smtp_port: int
    processes: Processes | None = None

    async def bearer(self, session: aiohttp.ClientSession, role: str = "user") -> str:
        asked = {"grant_type": "client_credentials", "client_id": "bench", "client_secret": "any", "role": role}
        async with session.post(f"{self.url}/oauth/token", data=asked) as answer:
            return f"Bearer {(await answer.json())['access_token']}"

    async def mails(self, session: aiohttp.ClientSession) -> Counter[str]:
        """How many hold a word, an order's id for example."""
        mails = await self._all(session, "/sandbox/inbox")
        return Counter(word for mail in mails for word in set(mail["text"].split()))

    async def charges(self, session: aiohttp.ClientSession) -> Counter[str]:
        """How many there are of each order."""
        return Counter(entry["orderId"] for entry in await self._all(session, "/sandbox/ledger"))

    async def _all(self, session: aiohttp.ClientSession, path: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        page: str | URL | None = self.url + path
        while page is not None:
            async with session.get(page) as answer:
                entries += await answer.json()
                page = answer.links["next"]["url"] if "next" in answer.links else None
        return entries


class Peer:
    """What is asked of each. `postgres` is the database server below, for its share of processor and memory."""

    def __init__(
        self,
        processes: Processes,
        outside: Sandbox,
        *,
        steps: Callable[[], str],
        orders: str,
        postgres: psutil.Process | None = None,
    ) -> None:
        self._processes = [processes, *([outside.processes] if outside.processes else [])]
        self._steps = steps
        self._orders = orders
        self._postgres = postgres
        self.placed: list[str] = []

    async def two_steps(self, session: aiohttp.ClientSession) -> None:
        async with session.post(self._steps(), skip_auto_headers=["content-type"]) as answer:
            assert answer.status == 200, await answer.text()

    async def order(self, session: aiohttp.ClientSession, body: Mapping[str, Any]) -> None:
        """The session shows a bearer token of the sandbox's."""
        async with session.post(self._orders, json=body) as answer:
            order = await answer.json()
            assert answer.status in {200, 201}, order
        self.placed.append(order["id"])

    def pids(self) -> dict[str, int]:
        return {name: process.pid for each in self._processes for name, process in each.started.items()}

    def memory(self) -> dict[str, int]:
        """Resident bytes of each process; of PostgreSQL's together what they don't share, and once what they do."""
        each = {name: psutil.Process(pid).memory_info().rss for name, pid in self.pids().items()}
        return each | ({"postgres": _memory(self._postgres)} if self._postgres else {})

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time of each process since its start."""
        each = {name: _cpu(psutil.Process(pid)) for name, pid in self.pids().items()}
        return each | ({"postgres": _cpu_together(self._postgres)} if self._postgres else {})


class WithPostgres:
    """A stack and the database server that it uses, where that runs on this machine."""

    def __init__(self, stack: Stack, url: str) -> None:
        self._stack, self._server = stack, _server_of(url)

    def memory(self) -> dict[str, int]:
        return self._stack.memory() | ({"postgres": _memory(self._server)} if self._server else {})

    def cpu_seconds(self) -> dict[str, float]:
        return self._stack.cpu_seconds() | ({"postgres": _cpu_together(self._server)} if self._server else {})


class Plain:
    """The same two calls, one after the other, by whoever measures: the floor below any engine's two steps."""

    def __init__(self, processes: Processes, nothing: str) -> None:
        self._processes = processes
        self._nothing = nothing

    def memory(self) -> dict[str, int]:
        return {name: process.memory_info().rss for name, process in self._running()}

    def cpu_seconds(self) -> dict[str, float]:
        return {name: _cpu(process) for name, process in self._running()}

    def _running(self) -> list[tuple[str, psutil.Process]]:
        return [(name, psutil.Process(process.pid)) for name, process in self._processes.started.items()]

    async def two_steps(self, session: aiohttp.ClientSession) -> None:
        for _ in range(2):
            async with session.post(self._nothing, json={}) as answer:
                assert answer.status == 200, await answer.text()


# --- what is started ----------------------------------------------------------------------------------------------


@contextmanager
def sandbox(folder: Path, **also: str) -> Generator[Sandbox]:
    """Without a sidecar; it sends no webhooks and no receipts. `also` is told it by its environment."""
    with _running(folder / "outside") as processes:
        port, smtp = local.free_port(), local.free_port()
        told = {"APP_PORT": str(port), "SANDBOX_SMTP_PORT": str(smtp), "SANDBOX_DATA_DIR": str(folder / "sandbox")}
        told |= {"SANDBOX_SECRETS_FILE": str(folder / "none.json"), **also}  # not those of whoever works here
        url = f"http://{local.HOST}:{port}"
        processes.start("sandbox", [sys.executable, "-m", "sandbox.main"], told)
        processes.wait_for("sandbox", partial(local.http_ok, f"{url}/health"), within=_READY)
        yield Sandbox(url=url, smtp_port=smtp, processes=processes)


@contextmanager
def plain(folder: Path) -> Generator[Plain]:
    with _running(folder / "plain") as processes:
        yield Plain(processes, _start_nothing(processes))


@contextmanager
def restate(folder: Path, outside: Sandbox) -> Generator[Peer]:
    """One node with its data in `folder`, its settings as they are shipped but for addresses, log level and the number
    of partitions: 24 are for a cluster, and one takes 1.4 times as many orders on two cores."""
    server = _restate_server()
    with _running(folder / "restate") as processes:
        rows = str(processes.run / "rows.db")
        app = f"http://{local.HOST}:{_start_app(processes, 'restate_app.py', outside, rows, ready='/health')}"
        ingress, admin = (f"http://{local.HOST}:{local.free_port()}" for _ in range(2))
        processes.start("restate", [server, "--no-logo"], _told_restate(processes.run, ingress, admin))
        processes.wait_for("restate", partial(_serves_restate, ingress, admin), within=_READY)
        _post(f"{admin}/deployments", {"uri": app})
        keys = itertools.count()
        run = f"{ingress}/TwoSteps/{{}}/run"
        yield Peer(processes, outside, steps=lambda: run.format(next(keys)), orders=f"{ingress}/Orders/place")


@contextmanager
def dbos(folder: Path, outside: Sandbox, postgres_url: str) -> Generator[Peer]:
    """On an empty database, whose server's settings are its own."""
    with _running(folder / "dbos") as processes:
        port = _start_app(processes, "dbos_app.py", outside, postgres_url, ready="/health")
        app = f"http://{local.HOST}:{port}"
        server = _server_of(postgres_url)
        yield Peer(processes, outside, steps=lambda: f"{app}/two-steps", orders=f"{app}/api/v1/orders", postgres=server)


def dlt_sync() -> tuple[Path, Path]:
    """The command, which wants arguments."""
    return _PYTHON, _HERE / "dlt_sync.py"


@contextmanager
def _running(run: Path) -> Generator[Processes]:
    if not _PYTHON.exists():
        raise Missing("the bench's peers are missing: run `tools/setup.sh bench`")
    run.mkdir(parents=True, exist_ok=True)
    processes, reaper = Processes(run, logs=run / "logs", cwd=run), Reaper(run)
    try:
        yield processes
    finally:
        processes.end()
        reaper.dismiss()


def _start_nothing(processes: Processes) -> str:
    port = local.free_port()
    processes.start("nothing", [_PYTHON, _HERE / "nothing.py", str(port)])
    processes.wait_for("nothing", partial(local.answers, port), within=_READY)
    return f"http://{local.HOST}:{port}/"


def _start_app(processes: Processes, file: str, outside: Sandbox, rows: str, *, ready: str) -> int:
    port = local.free_port()
    told = {"PEER_PORT": str(port), "PEER_ROWS": rows, "PEER_NOTHING": _start_nothing(processes)}
    told |= {"PEER_SANDBOX": outside.url, "PEER_SMTP_PORT": str(outside.smtp_port)}
    processes.start("app", [_PYTHON, _HERE / file], told)
    processes.wait_for("app", partial(local.http_ok, f"http://{local.HOST}:{port}{ready}"), within=_READY)
    return port


def _restate_server() -> Path:
    """The binary itself, out of the package of this platform."""
    found = next(_INSTALLED.glob("node_modules/@restatedev/restate-server-*/bin/restate-server"), None)
    if found is None:
        raise Missing("Restate's server is missing: install npm, then run `tools/setup.sh bench`")
    return found


def _told_restate(run: Path, ingress: str, admin: str) -> Addresses:
    fabric = f"{local.HOST}:{local.free_port()}"
    return {
        "DO_NOT_TRACK": "1",
        "RESTATE_BASE_DIR": str(run / "data"),
        "RESTATE_NODE_NAME": "bench",
        "RESTATE_DEFAULT_NUM_PARTITIONS": "1",
        "RESTATE_LISTEN_MODE": "tcp",  # a socket's path must be short, and the run's folder isn't
        "RESTATE_BIND_ADDRESS": fabric,
        "RESTATE_ADVERTISED_ADDRESS": f"http://{fabric}/",
        "RESTATE_INGRESS__BIND_ADDRESS": ingress.removeprefix("http://"),
        "RESTATE_ADMIN__BIND_ADDRESS": admin.removeprefix("http://"),
        "RESTATE_LOG_FILTER": "warn",
        "RESTATE_LOG_DISABLE_ANSI_CODES": "true",
    }


def _serves_restate(ingress: str, admin: str) -> bool:
    return local.http_ok(f"{admin}/health") and local.http_ok(f"{ingress}/restate/health")


def _post(url: str, body: Mapping[str, Any]) -> None:
    content, headers = json.dumps(body).encode(), {"content-type": "application/json"}
    request = urllib.request.Request(url, content, headers)  # noqa: S310  our own http address
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(request, timeout=_READY).close()
    except urllib.error.HTTPError as refused:
        raise LocalError(f"{url} answered {refused.code}: {refused.read().decode(errors='replace')}") from None


# --- what it takes ------------------------------------------------------------------------------------------------


def _server_of(url: str) -> psutil.Process | None:
    """PostgreSQL's first process, where it runs on this machine and not in a container."""
    with psycopg.connect(url) as connection:
        pid = connection.info.backend_pid
        try:
            process = psutil.Process(pid).parent()
        except psutil.NoSuchProcess:
            return None
        return process if process and process.name() == "postgres" else None


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _cpu_together(server: psutil.Process) -> float:
    """Those that have ended are in it too."""
    times = server.cpu_times()
    ended = times.children_user + times.children_system
    return _cpu(server) + ended + sum(_cpu(child) for child in server.children())


def _memory(server: psutil.Process) -> int:
    return sum(process.memory_full_info().pss for process in (server, *server.children()))


# --- what came of it --------------------------------------------------------------------------------------------------


async def undelivered(session: aiohttp.ClientSession, outside: Sandbox, placed: Sequence[str]) -> dict[str, int]:
    """How many of these orders have no mail or no charge, and how many more than one; waits for the last mail."""

    async def all_have_come() -> bool:
        return 0 not in _of(placed, await outside.mails(session))

    with contextlib.suppress(AssertionError):
        await eventually(all_have_come, within=_DELIVERED_WITHIN, every=1)
    mails = await outside.mails(session)
    charges = await outside.charges(session)
    counted = {"mails": _of(placed, mails), "charges": _of(placed, charges)}
    return {
        f"{name} {word}": sum(wrong(count) for count in counts)
        for name, counts in counted.items()
        for word, wrong in (("missing", lambda count: count == 0), ("twice", lambda count: count > 1))
    }


def _of(placed: Iterable[str], counted: Counter[str]) -> list[int]:
    return [counted[order_id] for order_id in placed]
