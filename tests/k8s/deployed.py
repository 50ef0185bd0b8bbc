"""What is deployed, as the tests here see it from outside and act on it: by NodePorts, and by kubectl."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, cast

import httpx
import node
from brewery import BACKOFFICE, DATASOURCE, NOTIFICATION, ORDER, PAYMENT, PUBLIC, Brewery, order_body

import cluster
from cluster import NODE_ADDRESS, Cluster
from stack.eventually import eventually
from stack.sidecars import Stack

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "brewline"
# As overlay `local` has them.
NODE_PORTS = {ORDER: 30001, PAYMENT: 30002, NOTIFICATION: 30003, DATASOURCE: 30004, BACKOFFICE: 30005, "sandbox": 30009}


def url_of(app_id: str) -> str:
    return f"http://{NODE_ADDRESS}:{NODE_PORTS[app_id]}"


def _selector(app_id: str) -> str:
    return f"--selector=app.kubernetes.io/name={app_id}"


async def bearer(sandbox: httpx.AsyncClient, role: str = "user") -> dict[str, str]:
    """A token of the issuer in the cluster, as the header that carries it."""
    asked = {"grant_type": "client_credentials", "client_id": "s-1", "client_secret": "any"}
    answer = await sandbox.post("/oauth/token", data=asked | {"role": role, "sub": "s-1", "tenant": "default"})
    return {"Authorization": f"Bearer {answer.raise_for_status().json()['access_token']}"}


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """What a cluster might leave on this machine."""

    namespaces: frozenset[str]
    mounts: frozenset[str]
    interfaces: frozenset[str]
    groups: frozenset[str]
    folders: frozenset[str]
    settings: frozenset[tuple[str, str]]


def machine_state() -> MachineState:
    namespaces = {link for kind in ("pid", "net", "mnt", "ipc") for link in _links(kind)}
    settings = (*node.KERNEL, *node.NETWORK, "net/netfilter/nf_conntrack_max")
    files = ((name, Path("/proc/sys", name)) for name in settings)
    return MachineState(
        namespaces=frozenset(namespaces),
        mounts=frozenset(Path("/proc/mounts").read_text().splitlines()),
        interfaces=frozenset(path.name for path in Path("/sys/class/net").iterdir()),
        groups=frozenset(
            str(each / cluster.CGROUP) for each in cluster.cgroup_parents() if (each / cluster.CGROUP).exists()
        ),
        folders=frozenset(
            name for name in ("/var/lib/kubelet", "/var/lib/cni", "/var/log/pods", "/run/netns") if Path(name).exists()
        ),
        settings=frozenset((name, file.read_text().strip()) for name, file in files if file.exists()),
    )


def _links(kind: str) -> Iterable[str]:
    """A namespace lives as long as a process is in it, or a mount of it is there."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield str((process / "ns" / kind).readlink())
        except OSError:  # it has ended
            continue


def run_deploy(kubernetes: Cluster, *options: str) -> str:
    """What `make deploy OVERLAY=local` says."""
    command = [sys.executable, ROOT / "tools" / "deploy.py", "deploy", "--overlay=local", "--within=90", *options]
    environment = {**os.environ, "KUBECONFIG": str(kubernetes.kubeconfig)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + kubernetes.kubectl("get", "pods", "--all-namespaces")
    return done.stdout


class Deployed:
    def __init__(
        self, kubernetes: Cluster, *, tag: str, said: str, before: MachineState, end: Callable[[], None]
    ) -> None:
        self.cluster = kubernetes
        self.tag = tag
        self.said = said
        self.before = before
        self.end = end

    def brewery(self, api: httpx.AsyncClient, sandbox: httpx.AsyncClient) -> Brewery:
        """Only what it does over HTTP: there is no stack."""
        return Brewery(cast("Stack", None), api, sandbox)

    # Off the loop: the orders go on meanwhile.
    async def kubectl(self, *words: str | Path, stdin: str = "", check: bool = True) -> str:
        named = [f"--namespace={NAMESPACE}", *words]
        return await asyncio.to_thread(self.cluster.kubectl, *named, stdin=stdin, check=check)

    async def listed(self, *words: str) -> list[dict[str, Any]]:
        return json.loads(await self.kubectl("get", *words, "--output=json"))["items"]

    async def deploy(self, tag: str) -> None:
        """Every service's image of that tag, by `make deploy`."""
        self.said = await asyncio.to_thread(run_deploy, self.cluster, f"--tag={tag}")

    async def tell_telemetry(self, url: str, *app_ids: str) -> None:
        """Their apps and sidecars report to that OTLP receiver from now on, soon after it happened."""
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_INSECURE": "true",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
        }
        app = {"name": "app", "env": [{"name": name, "value": value} for name, value in settings.items()]}
        sidecar = {"dapr.io/env": ",".join(f"{name}={value}" for name, value in settings.items())}
        pod = {"metadata": {"annotations": sidecar}, "spec": {"containers": [app]}}
        for app_id in app_ids:
            patch = json.dumps({"spec": {"template": pod}})
            await self.kubectl("patch", "deployment", app_id, f"--patch={patch}")
        await self.whole(*app_ids)

        # One that leaves still takes requests, and tells nothing.
        async def left() -> bool:
            pods = [pod for app_id in app_ids for pod in await self.listed("pods", _selector(app_id))]
            return not any("deletionTimestamp" in pod["metadata"] for pod in pods)

        await eventually(left, within=60, every=0.5)

    async def sql(self, database: str, query: str) -> str:
        """The rows, as psql prints them bare."""
        command = f'PGPASSWORD=$POSTGRES_PASSWORD exec psql -h /tmp -U postgres -At -d {database} -c "{query}"'
        return await self.kubectl("exec", "postgres-0", "--", "sh", "-c", command)

    async def pods(self, app_id: str) -> list[dict[str, Any]]:
        """Those that are not on their way out."""
        found = await self.listed("pods", _selector(app_id))
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    async def pod(self, app_id: str) -> str:
        return (await self.pods(app_id))[0]["metadata"]["name"]

    async def whole(self, *app_ids: str, within: float = 90) -> None:
        """Until every pod of the newest version has all its containers ready. Those before may still be leaving."""
        for app_id in app_ids:
            await self.kubectl("rollout", "status", await self.workload(app_id), f"--timeout={within:.0f}s")

            async def ready(app_id: str = app_id) -> bool:
                pods = await self.listed("pods", _selector(app_id))
                states = [each for pod in pods for each in pod["status"].get("containerStatuses", ())]
                assert states
                assert all(state["ready"] for state in states)
                return True

            await eventually(ready, within=within, every=0.5)

    async def workload(self, app_id: str) -> str:
        names = await self.kubectl("get", "deployments,statefulsets", "--output=name")
        return next(name for name in names.split() if name.rpartition("/")[2] == app_id)

    async def ask_sidecar(self, app_id: str, path: str, *, body: str = "{}") -> tuple[int, str]:
        """What a POST from inside the app's container to its own sidecar is answered."""
        program = (
            "import os, sys, urllib.error, urllib.request as r\n"
            f"q = r.Request('http://127.0.0.1:3500{path}', data={body!r}.encode(), headers={{'content-type': "
            "'application/json', 'dapr-api-token': os.environ['DAPR_API_TOKEN']})\n"
            "try: a = r.urlopen(q, timeout=30)\n"
            "except urllib.error.HTTPError as e: a = e\n"
            "print(a.status, a.read().decode())"
        )
        status, _, text = (await self.run(app_id, program)).partition(" ")
        return int(status), text

    async def sidecar_metrics(self, app_id: str) -> str:
        """As Prometheus would read them."""
        return await self.run(
            app_id,
            "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9090/metrics', timeout=30).read().decode())",
        )

    async def run(self, app_id: str, program: str) -> str:
        """What a Python program prints inside the app's container."""
        return await self.kubectl("exec", await self.pod(app_id), "--container=app", "--", "python", "-c", program)


@dataclass
class Load:
    """Orders at a steady pace, every other one over a connection of its own, the rest over those that a client keeps.
    What is answered neither 201 nor 202 failed."""

    brewery: Brewery
    per_second: float
    ids: list[str] = field(default_factory=list[str])
    failed: list[str] = field(default_factory=list[str])
    _running: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    async def __aenter__(self) -> "Load":
        self._pace = asyncio.create_task(self._go())
        await self.more(10)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pace.cancel()
        await asyncio.gather(*self._running)

    async def more(self, orders: int) -> None:
        """Until so many more are answered."""
        wanted = len(self.ids) + len(self.failed) + orders
        await eventually(lambda: len(self.ids) + len(self.failed) >= wanted, within=60)

    async def _go(self) -> None:
        for number in count():
            task = asyncio.create_task(self._place(own_connection=number % 2 == 0))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            await asyncio.sleep(1 / self.per_second)

    async def _place(self, *, own_connection: bool) -> None:
        try:
            answer = await self.brewery.place(headers={"Connection": "close"} if own_connection else None)
        except httpx.HTTPError as error:
            self.failed.append(repr(error))
        else:
            if answer.status_code in (201, 202):
                self.ids.append(answer.json()["id"])
            else:
                self.failed.append(f"{answer.status_code} {answer.text}")


async def place_until_taken(brewery: Brewery, key: str) -> str:
    """As a careful client does it: the same order under the same key until it is taken; its id."""

    async def taken() -> str:
        try:
            answer = await brewery.api.post(PUBLIC, json=order_body(), headers={"Idempotency-Key": key}, timeout=10)
        except httpx.HTTPError:
            return ""
        return answer.json()["id"] if answer.status_code in (201, 202) else ""

    return await eventually(taken, within=120, every=0.5)


async def each_is_charged_once(brewery: Brewery, ids: Iterable[str], *, within: float = 120) -> None:
    """Every order ends confirmed, and the provider's own ledger has one charge for it and no refund."""
    for order_id in ids:
        await brewery.becomes(order_id, within=within, status="confirmed")
    wanted = set(ids)
    ledger = [entry for entry in await brewery.listed("ledger") if entry["orderId"] in wanted]
    assert Counter(entry["orderId"] for entry in ledger) == Counter(wanted)
    assert {entry["kind"] for entry in ledger} == {"charge"}
