"""Real sidecars: Redis, placement, scheduler, and each app beside its own `daprd`.

Nothing is shared with another stack on the machine, not even names, unless it is named; nothing outlives it.
"""

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from types import TracebackType
from typing import Self

import psutil

from stack import components, local, runfile
from stack.foundation import Foundation, Sentry
from stack.processes import Processes, Reaper

# Generous: a machine may be busy. A start takes about three seconds.
READY = 90.0
# What a test tells its sidecars, in the words of a run file: they notice soon what died, and say little.
TESTED: Mapping[str, object] = {
    "apiListenAddresses": local.HOST,
    "enableAppHealthCheck": True,
    "appHealthCheckPath": "/health/live",
    "appHealthProbeInterval": 1,
    "appHealthProbeTimeout": 900,
    "appHealthThreshold": 3,
    "logLevel": "warn",
}
# Of the sidecars in a stack with mTLS: a policy names a caller's namespace too.
NAMESPACE = "brewline"


@dataclass(frozen=True, kw_only=True)
class Ports:
    """An app's and its sidecar's."""

    app: int = field(default_factory=local.free_port)
    http: int = field(default_factory=local.free_port)
    grpc: int = field(default_factory=local.free_port)
    internal: int = field(default_factory=local.free_port)
    metrics: int = field(default_factory=local.free_port)


# A sidecar collects its garbage less often: a twelfth of its CPU for 15 MB. As in k8s/base/pod.yaml.
_GO = {"GOGC": "250"}


@dataclass(frozen=True, kw_only=True)
class AppSpec:
    """An app of the stack: `python -m module`, or another command, with these additions to its environment.

    `known_as` is the address (`localhost:8009`) under which components and environments know the app; it is replaced
    there. `name` tells replicas apart: it is what the stack calls this one, where `app_id` is what its sidecar says.
    `secrets` is the app's own secret in the store `secrets`. Without `ports` it gets free ones.
    """

    app_id: str
    module: str = ""
    command: Sequence[str] = ()
    name: str = ""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])
    known_as: str | None = None
    ports: Ports | None = None
    ready: str = "/health/ready"

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.app_id)
        object.__setattr__(self, "command", self.command or (sys.executable, "-m", self.module))


class Stack:
    """Starts when entered and ends, every process of it, when left.

    `components` is copied with this stack's addresses, so that the files under test are the ones that are shipped;
    `components/config.yaml` configures the sidecars, and over it what `config` names for an app. `sidecar` is what
    each of them is told besides, in the words of a run file. Whoever calls a sidecar shows `dapr_token` as
    `dapr-api-token`; a sidecar shows `app_token` to its app. With `mtls` the sidecars have certificates, so that
    policies know who calls. Logs are in `run_dir/logs`, data in `run_dir/data`. `secrets_file` is there already;
    otherwise one is made of what the apps name.
    """

    def __init__(
        self,
        *,
        apps: Sequence[AppSpec],
        components: Path,
        run_dir: Path,
        tools_bin: Path,
        cwd: Path | None = None,
        config: Mapping[str, Path] | None = None,
        sidecar: Mapping[str, object] = TESTED,
        foundation: Foundation | None = None,
        secrets_file: Path | None = None,
        tokens: Mapping[str, str] | None = None,
        mtls: bool = False,
    ) -> None:
        self.apps = {spec.name: spec for spec in apps}
        self.run_dir = run_dir
        # Sidecar and app find both under these names, the one what it shows and the other what it asks for.
        self._tokens = tokens or _new_tokens()
        self._config = config or {}
        self._sidecar_entry = sidecar
        self._sentry = Sentry(port=local.free_port(), folder=run_dir / "sentry") if mtls else None
        self._components = components
        self._tools_bin = tools_bin
        self._ports = {spec.name: spec.ports or Ports() for spec in apps}
        self._foundation = foundation or Foundation()
        self._parts = self._foundation.parts(run_dir / "data", self._program, self._sentry)
        self._secrets_file = secrets_file
        self._addresses: dict[str, str] = {}
        self._processes = Processes(run_dir, logs=run_dir / "logs", cwd=cwd or run_dir)

    # --- as a whole ---

    def __enter__(self) -> Self:
        self._reaper = Reaper(self.run_dir)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when everything is ready; raises `LocalError` with the last words of what ended."""
        self._addresses = self._readdressing()
        components.render(self._components, self.run_dir / "components", addresses=self._addresses)
        for name, part in self._parts.items():
            if not part.serves():
                self._start(name)
        for name in self.apps:
            self._launch_sidecar(name)
            self._launch_app(name)
        together = list(self._processes.started)
        for name in self.apps:
            self._await_sidecar(name, together)
            self._await_app(name, together)

    def stop(self) -> None:
        self._processes.end()
        self._reaper.dismiss()

    def heal(self) -> None:
        """Starts again what a test has left dead, so that the next one meets a whole stack."""
        if self._has_ended("redis"):
            self.start_redis()
        for name in self.apps:
            if self._has_ended(_sidecar(name)):
                self.start_sidecar(name)
            if self._has_ended(name):
                self.start_app(name)
        for name in self.apps:  # a living app may not have noticed yet that its sidecar is back
            self._await_app(name)

    # --- tokens ---

    @property
    def app_token(self) -> str:
        return self._tokens["APP_API_TOKEN"]

    @property
    def dapr_token(self) -> str:
        return self._tokens["DAPR_API_TOKEN"]

    def rotate_tokens(self) -> None:
        """What is started from now on has new ones: an app and its own sidecar go together."""
        self._tokens = _new_tokens()

    # --- addresses, logs, memory ---

    def url(self, name: str) -> str:
        return f"http://{local.HOST}:{self._ports[name].app}"

    def sidecar_url(self, name: str) -> str:
        return f"http://{local.HOST}:{self._ports[name].http}"

    def app_env(self, name: str) -> dict[str, str]:
        """What the app is told: its ports as the dapr CLI tells them, the tokens, and what its spec adds, in which
        `{some-app}` is that app's URL, and its `known_as` the address that it has."""
        spec, ports = self.apps[name], self._ports[name]
        told = {
            "APP_PORT": ports.app,
            "DAPR_HTTP_PORT": ports.http,
            "DAPR_GRPC_PORT": ports.grpc,
            "DAPR_METRICS_PORT": ports.metrics,
        }
        numbers = {variable: str(port) for variable, port in told.items()}
        addresses = {f"{{{app}}}": self.url(app) for app in self.apps} | self._addresses | self._names()
        added = {variable: components.readdressed(value, addresses) for variable, value in spec.env.items()}
        return {"APP_ID": spec.app_id, **numbers, **self._tokens, **self._foundation.telemetry, **added}

    def pids(self) -> dict[str, int]:
        """Of every process that was started, by name: the apps, `<app>.sidecar`, redis and so on."""
        return {name: process.pid for name, process in self._processes.started.items()}

    def logs(self, name: str) -> str:
        """Everything the app has written since the stack began, over all its starts."""
        return self._processes.log(name).read_text(errors="replace")

    def scheduler_metrics_url(self) -> str:
        return f"http://{local.HOST}:{self._foundation.scheduler_metrics}/metrics"

    def sidecar_metrics(self, name: str) -> str:
        """Host and port of what a sidecar tells of itself, under `/metrics`."""
        return f"{local.HOST}:{self._ports[name].metrics}"

    def memory(self) -> dict[str, int]:
        """Resident bytes of each running process."""
        return {name: process.memory_info().rss for name, process in self._running().items()}

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time of each running process since its start."""
        spent = {name: process.cpu_times() for name, process in self._running().items()}
        return {name: times.user + times.system for name, times in spent.items()}

    def _running(self) -> dict[str, psutil.Process]:
        alive = {name: one for name, one in self._processes.started.items() if not self._has_ended(name)}
        return {name: psutil.Process(one.pid) for name, one in alive.items()}

    # --- apps ---

    def kill_app(self, name: str) -> None:
        self._processes.stop(name, kill=True)

    def freeze_app(self, name: str) -> None:
        """SIGSTOP: it holds its connections and does nothing, until `thaw_app` or `kill_app`."""
        self._processes.started[name].send_signal(signal.SIGSTOP)

    def thaw_app(self, name: str) -> None:
        self._processes.started[name].send_signal(signal.SIGCONT)

    def start_app(self, name: str) -> None:
        """On the same ports as before; returns when it is ready."""
        self._launch_app(name)
        self._await_app(name)

    def kill_sidecar(self, name: str) -> None:
        self._processes.stop(_sidecar(name), kill=True)

    def start_sidecar(self, name: str) -> None:
        self._launch_sidecar(name)
        self._await_sidecar(name)

    # --- redis ---

    def stop_redis(self, *, kill: bool = False) -> None:
        self._processes.stop("redis", kill=kill)

    def start_redis(self) -> None:
        """On the same port and the same data."""
        self._start("redis")

    # --- how ---

    def _program(self, name: str) -> Path:
        return local.need_program(name, self._tools_bin)

    def _start(self, name: str) -> None:
        self._processes.start(name, self._parts[name].command())
        self._processes.wait_for(name, self._parts[name].serves, within=READY)

    def _has_ended(self, name: str) -> bool:
        return self._processes.started[name].poll() is not None

    def _readdressing(self) -> dict[str, str]:
        """What the components say of one machine, and where it is in this run."""
        addresses = {"localhost:6379": f"{local.HOST}:{self._foundation.redis}"}
        addresses[local.SECRETS_FILE] = str(self._secrets_file or self._make_secrets())
        return addresses | {usual: f"{local.HOST}:{port}" for usual, port in self._known().items()}

    def _names(self) -> dict[str, str]:
        """The same for an app's environment, which keeps the host's name: to a browser `localhost` and 127.0.0.1 are
        two sites, with cookies and rights of their own."""
        return {usual: f"{usual.partition(':')[0]}:{port}" for usual, port in self._known().items()}

    def _known(self) -> dict[str, int]:
        return {spec.known_as: self._ports[name].app for name, spec in self.apps.items() if spec.known_as}

    def _make_secrets(self) -> Path:
        held = {spec.app_id: dict(spec.secrets) for spec in self.apps.values() if spec.secrets}
        file = self.run_dir / "secrets.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps({"redis": {"password": ""}} | held))
        return file

    def _launch_app(self, name: str) -> None:
        self._processes.start(name, self.apps[name].command, self.app_env(name))

    def _launch_sidecar(self, name: str) -> None:
        spec, ports, resources = self.apps[name], self._ports[name], self.run_dir / "components"
        entry = {
            **self._sidecar_entry,
            "appID": spec.app_id,
            "appPort": ports.app,
            "daprHTTPPort": ports.http,
            "daprGRPCPort": ports.grpc,
            "daprInternalGRPCPort": ports.internal,
            "daprInternalGRPCListenAddress": local.HOST,
            "metricsPort": ports.metrics,
            "metricsListenAddress": local.HOST,
            "resourcesPath": resources,
            "configFilePath": [resources / "config.yaml", *filter(None, [self._config.get(name)])],  # the last prevails
            "placementHostAddress": f"{local.HOST}:{self._foundation.placement}",
            "schedulerHostAddress": f"{local.HOST}:{self._foundation.scheduler}",
        }
        env = {**self._tokens, **_GO, **self._foundation.telemetry}
        if self._sentry:
            entry |= {"enableMtls": True, "sentryAddress": self._sentry.address}
            env |= {"NAMESPACE": NAMESPACE, "DAPR_TRUST_ANCHORS": self._sentry.trust_anchors.read_text()}
        command = [self._program("daprd"), *runfile.sidecar_flags(entry)]
        self._processes.start(_sidecar(name), command, env)

    def _await_app(self, name: str, together: Sequence[str] = ()) -> None:
        ready = self.url(name) + self.apps[name].ready
        self._processes.wait_for(name, lambda: local.http_ok(ready), within=READY, together=together)

    def _await_sidecar(self, name: str, together: Sequence[str] = ()) -> None:
        # Without its app a sidecar gets no further than calls going out.
        ready = self.sidecar_url(name) + "/v1.0/healthz" + ("/outbound" if self._has_ended(name) else "")
        self._processes.wait_for(_sidecar(name), lambda: local.http_ok(ready), within=READY, together=together)


def _new_tokens() -> dict[str, str]:
    return {"APP_API_TOKEN": token_urlsafe(), "DAPR_API_TOKEN": token_urlsafe()}


def _sidecar(name: str) -> str:
    return f"{name}.sidecar"
