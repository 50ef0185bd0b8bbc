"""The images as they are shipped, with sidecars, Redis and PostgreSQL, each in a container: one order, through to its
e-mail. On a Docker engine, or on podman by the socket that Docker's clients speak to.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import httpx
import pytest
import yaml
from brewery import order_body

from cli import vault
from stack import components, containers, local
from stack.containers import Engine
from stack.eventually import eventually
from stack.runfile import sidecar_flags

pytestmark = pytest.mark.containers

ROOT = Path(__file__).resolve().parents[2]
# As `make images` names them, and any that holds Dapr's programs at its root; empty: one of the programs built here.
IMAGE = os.environ.get("TEST_IMAGE", "localhost/brewline/{}:latest")
DAPR_IMAGE = os.environ.get("TEST_DAPR_IMAGE", "")
PROGRAMS = ("daprd", "placement", "scheduler")
PORTS = {"order": 8001, "payment": 8002, "notification": 8003, "sandbox": 8009}
# The walls that k8s/base/pod.yaml puts around every container.
WALLS = {"user": "10001:10001", "read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}
TMPFS = "size=1g,mode=1777"
READY = 60.0


# Serves podman's socket if $2 is one, and waits: when the pipe closes, on purpose or with pytest's death, whatever has
# the label $3 ends. Twice: a container whose network another one has stays as long as that.
KEEPER = """
[ -z "$2" ] || "$1" system service --time=0 "unix://$2" &
cat
for turn in first second; do
  "$1" ps --all --quiet --filter "label=$3" | xargs --no-run-if-empty "$1" rm --force --volumes
done
"$1" images --quiet --filter "label=$3" | xargs --no-run-if-empty "$1" rmi --force
"$1" network ls --quiet --filter "label=$3" | xargs --no-run-if-empty "$1" network rm
kill $!
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """It answers to Docker's clients; podman does as long as a process of ours serves its socket."""
    try:
        found = containers.need()
    except local.LocalError as nobody:
        pytest.skip(str(nobody))
    if found.name == "buildah":
        pytest.skip("buildah builds images but runs none: install podman beside it, or start a Docker engine")
    missing = [name for name in (*PORTS, "redis", "postgres") if not found.has(IMAGE.format(name))]
    if missing:
        pytest.skip(f"{found.name} has no image {IMAGE.format(missing[0])}: run `make images`")
    folder = tmp_path_factory.mktemp("engine")
    socket = folder / "socket" if found.name == "podman" else None
    with pytest.MonkeyPatch.context() as environment:
        # Ryuk, which would tidy up after us, is an image of its own.
        environment.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
        if socket:
            environment.setenv("DOCKER_HOST", f"unix://{socket}")
            environment.setenv("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
        from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID  # noqa: PLC0415  it reads the environment

        label = f"{LABEL_SESSION_ID}={SESSION_ID}"
        words = ["sh", "-c", KEEPER, "keeper", found.program, socket or "", label]
        with (folder / "log").open("wb") as log:
            keeper = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
        try:
            if socket:
                local.wait_until(socket.exists, within=READY, what="podman to serve its socket")
            yield found
            assert found.run("ps", "--all", "--quiet", f"--filter=label={label}") == ""
            assert found.run("network", "ls", "--quiet", f"--filter=label={label}") == ""
        finally:
            keeper.communicate()


@pytest.fixture(scope="module")
def dapr_image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if DAPR_IMAGE:
        yield DAPR_IMAGE
        return
    folder, image = tmp_path_factory.mktemp("dapr"), f"localhost/brewline/dapr-of-a-test:{os.getpid()}"
    for name in PROGRAMS:
        shutil.copy(local.need_program(name, ROOT / "tools" / "bin"), folder / name)
    (folder / "Dockerfile").write_text(f"FROM scratch\nCOPY {' '.join(PROGRAMS)} /\n")
    from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID  # noqa: PLC0415  it reads the environment

    engine.run("build", f"--tag={image}", f"--label={LABEL_SESSION_ID}={SESSION_ID}", folder)
    yield image


class Containers:
    """What runs in a network of its own, under the names by which each finds the other."""

    def __init__(self, engine: Engine, folder: Path, network: Any, afterwards: ExitStack) -> None:
        self.folder, self._network, self._afterwards = folder, network, afterwards
        self._limits = [{"Name": name, "Soft": most, "Hard": most} for name, most in engine.limits().items()]
        self._running: dict[str, Any] = {}

    def start(
        self,
        name: str,
        image: str,
        *command: str,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        beside: str = "",
    ) -> None:
        """`port` is reached from here; `beside` another container, it has that one's network."""
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415  it reads the environment

        kwargs: dict[str, Any] = {"ulimits": self._limits, **WALLS}
        if beside:
            kwargs["network_mode"] = f"container:{self._running[beside].get_wrapped_container().id}"
        container = DockerContainer(image, **kwargs)
        container.with_tmpfs_mount("/tmp", TMPFS).with_tmpfs_mount("/data", TMPFS)  # noqa: S108  the container's own
        container.with_envs(**(env or {})).with_volume_mapping(str(self.folder), str(self.folder), "rw")
        if command:
            container.with_command([*command])
        if not beside:
            container.with_network(self._network).with_network_aliases(name)
        if port:
            container.with_exposed_ports(port)
        self._running[name] = container
        self._afterwards.callback(container.stop)
        container.start()
        self._afterwards.callback(self._keep_log, name)

    def _keep_log(self, name: str) -> None:
        """For as long as pytest keeps the folder."""
        (self.folder / f"{name}.log").write_bytes(self._running[name].get_wrapped_container().logs())

    def url(self, name: str) -> str:
        container = self._running[name]
        return f"http://{container.get_container_host_ip()}:{container.get_exposed_port(PORTS[name])}"

    def await_ready(self, name: str, path: str) -> None:
        local.wait_until(lambda: local.http_ok(self.url(name) + path), within=READY, what=f"{name} to be ready")


@pytest.fixture(scope="module")
def running(engine: Engine, dapr_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    from testcontainers.core.network import Network  # noqa: PLC0415  it reads the environment

    folder = tmp_path_factory.mktemp("containers")
    secrets = json.loads(vault.secrets_file(folder).read_text())
    secrets["redis"]["password"] = token_urlsafe()
    tokens = {"APP_API_TOKEN": token_urlsafe(), "DAPR_API_TOKEN": token_urlsafe()}
    password = token_urlsafe()
    _lay_out(folder, secrets)
    with ExitStack() as afterwards:
        network = afterwards.enter_context(Network())
        run = Containers(engine, folder, network, afterwards)
        run.start("redis", IMAGE.format("redis"), env={"REDIS_PASSWORD": secrets["redis"]["password"]})
        databases = {"POSTGRES_PASSWORD": password, "POSTGRES_DATABASES": "order payment notification"}
        run.start("postgres", IMAGE.format("postgres"), env=databases)
        run.start("placement", dapr_image, "/placement", "--log-level=warn")
        run.start(
            "scheduler",
            dapr_image,
            "/scheduler",
            "--etcd-data-dir=/tmp/etcd",
            "--identity-directory-write=/tmp/identity",
        )
        outside = {f"SANDBOX_{name.upper().replace('-', '_')}": value for name, value in secrets["sandbox"].items()}
        outside |= {"SANDBOX_HOST": "0.0.0.0", "SANDBOX_DATA_DIR": "/tmp/sandbox"}  # noqa: S104, S108
        run.start("sandbox", IMAGE.format("sandbox"), env=outside, port=PORTS["sandbox"])
        run.await_ready("sandbox", "/health/live")
        for name in ("payment", "notification", "order"):
            database = f"postgresql://postgres:{password}@postgres/{name}"
            env = {"HOST": "0.0.0.0", "DAPR_HTTP_PORT": "3500", f"{name.upper()}_DATABASE_URL": database}  # noqa: S104
            env |= {"APP_PORT": str(PORTS[name]), "NOTIFICATION_SMTP_HOST": "sandbox", **tokens}
            run.start(name, IMAGE.format(name), env=env, port=PORTS[name])
            run.start(f"{name}.sidecar", dapr_image, "/daprd", *_flags(name, folder), env=tokens, beside=name)
        for name in ("payment", "notification", "order"):
            run.await_ready(name, "/health/ready")
        yield run


def _lay_out(folder: Path, secrets: Mapping[str, Any]) -> None:
    """The components as they are shipped, with the containers' names in the place of this machine's, readable by who
    runs in a container."""
    file = folder / "secrets-of-a-test.json"
    file.write_text(json.dumps(secrets))
    addresses = {"localhost:6379": "redis:6379", "localhost:8009": "sandbox:8009", local.SECRETS_FILE: str(file)}
    components.render(ROOT / "components", folder / "components", addresses=addresses)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)


def _flags(name: str, folder: Path) -> list[str]:
    told = yaml.safe_load((ROOT / "dapr.yaml").read_text())["common"]
    entry = told | {
        "appID": f"{name}-service",
        "appPort": PORTS[name],
        "daprHTTPPort": 3500,
        "resourcesPath": folder / "components",
        "configFilePath": folder / "components" / "config.yaml",
        "placementHostAddress": "placement:50005",
        "schedulerHostAddress": "scheduler:50006",
        "logLevel": "warn",
    }
    return sidecar_flags(entry)


async def test_one_order_is_confirmed_charged_once_and_told_by_mail(running: Containers) -> None:
    async with (
        httpx.AsyncClient(base_url=running.url("sandbox"), timeout=30, trust_env=False) as outside,
        httpx.AsyncClient(base_url=running.url("order"), timeout=30, trust_env=False) as api,
    ):
        asked = {"grant_type": "client_credentials", "client_id": "s-1", "client_secret": "any", "role": "staff"}
        answer = await outside.post("/oauth/token", data=asked | {"sub": "s-1", "tenant": "default"})
        api.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access_token']}"

        placed = await api.post("/api/v1/orders", json=order_body())
        assert placed.status_code == 201, placed.text
        order_id = placed.json()["id"]

        async def confirmed() -> bool:
            order = (await api.get(f"/api/v1/orders/{order_id}")).raise_for_status().json()
            return (order["status"], order["payment"]["status"]) == ("confirmed", "succeeded")

        async def mails() -> list[str]:
            inbox = (await outside.get("/sandbox/inbox")).raise_for_status().json()
            return [mail["subject"] for mail in inbox if order_id in mail["text"]]

        await eventually(confirmed, within=30, every=0.2)
        ledger = (await outside.get("/sandbox/ledger", params={"orderId": order_id})).raise_for_status().json()
        assert [entry["kind"] for entry in ledger] == ["charge"]
        assert len(await eventually(mails, within=30, every=0.2)) == 1
