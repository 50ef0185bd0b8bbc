"""What sidecars stand on: Redis, placement, scheduler and, with mTLS, sentry, apart from anyone else's.

Beside them, where it is asked for, the receiver of traces.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from stack import local
from stack.processes import RECEIVER


@dataclass(frozen=True, kw_only=True)
class Part:
    """One program: what starts it, and whether it serves already."""

    command: Callable[[], list[str]]
    serves: Callable[[], bool]


def redis_command(program: Path, *, port: int, data: Path) -> list[str]:
    data.mkdir(parents=True, exist_ok=True)
    # Appends to disk, once a second, and takes no snapshots: the durability the figures in the documents stand on.
    durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
    return [
        str(program),
        "--port",
        str(port),
        "--bind",
        local.HOST,
        "--dir",
        str(data),
        *durable,
        "--loglevel",
        "warning",
    ]


@dataclass(frozen=True, kw_only=True)
class Sentry:
    """Dapr's certificate authority, for a run with mTLS. It makes its certificates in the folder at its first start."""

    port: int
    folder: Path

    @property
    def address(self) -> str:
        return f"{local.HOST}:{self.port}"

    @property
    def trust_anchors(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def flags(self) -> list[str]:
        """What placement and scheduler are told of it."""
        return ["--tls-enabled", "--sentry-address", self.address, "--trust-anchors-file", str(self.trust_anchors)]


def sentry_command(program: Path, sentry: Sentry) -> list[str]:
    sentry.folder.mkdir(parents=True, exist_ok=True)
    # It doesn't start without a configuration file; one that says nothing of certificates lets it sign for everyone.
    config = sentry.folder / "config.yaml"
    config.write_text("{apiVersion: dapr.io/v1alpha1, kind: Configuration, metadata: {name: sentry}}")
    return [
        str(program),
        *("--listen-address", local.HOST, "--port", str(sentry.port), "--config", str(config)),
        *("--healthz-listen-address", local.HOST, "--healthz-port", str(local.free_port())),
        *("--issuer-credentials", str(sentry.folder), "--enable-metrics=false", "--log-level", "warn"),
    ]


def placement_command(program: Path, *, port: int, sentry: Sentry | None = None) -> list[str]:
    # Beside its own port it listens on three more, which two runs on one machine would fight over.
    return [
        str(program),
        *("--listen-address", local.HOST, "--port", str(port)),
        *("--healthz-listen-address", local.HOST, "--healthz-port", str(local.free_port())),
        *("--initial-cluster", f"dapr-placement-0={local.HOST}:{local.free_port()}"),
        *("--enable-metrics=false", "--log-level", "warn"),
        *(sentry.flags if sentry else ()),
    ]


def scheduler_command(program: Path, *, port: int, metrics: int, data: Path, sentry: Sentry | None = None) -> list[str]:
    data.mkdir(parents=True, exist_ok=True)
    return [
        str(program),
        *(
            "--listen-address",
            local.HOST,
            "--port",
            str(port),
            "--override-broadcast-host-port",
            f"{local.HOST}:{port}",
        ),
        *("--healthz-listen-address", local.HOST, "--healthz-port", str(local.free_port())),
        *(
            "--etcd-data-dir",
            str(data),
            "--etcd-client-listen-address",
            local.HOST,
            "--etcd-client-port",
            str(local.free_port()),
        ),
        *("--etcd-initial-cluster", f"dapr-scheduler-server-0=http://{local.HOST}:{local.free_port()}"),
        *("--identity-directory-write", str(data.with_name(f"{data.name}-identity"))),
        *("--metrics-listen-address", local.HOST, "--metrics-port", str(metrics), "--log-level", "warn"),
        *(sentry.flags if sentry else ()),
    ]


def receiver_command(*, port: int, data: Path) -> list[str]:
    return [sys.executable, "-m", RECEIVER, "--port", str(port), "--file", str(data / "traces.db")]


@dataclass(frozen=True, kw_only=True)
class Foundation:
    """The ports of what the sidecars stand on. What serves on one already is used as it is. Without `traces` there is
    no receiver, and nothing is exported."""

    redis: int = field(default_factory=local.free_port)
    placement: int = field(default_factory=local.free_port)
    scheduler: int = field(default_factory=local.free_port)
    scheduler_metrics: int = field(default_factory=local.free_port)
    traces: int = 0

    @property
    def telemetry(self) -> dict[str, str]:
        """What apps and sidecars are told in order to export to our receiver, in OpenTelemetry's own words."""
        if not self.traces:
            return {}
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{local.HOST}:{self.traces}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_INSECURE": "true",
            "OTEL_BSP_SCHEDULE_DELAY": "1000",  # milliseconds: whoever looks at an order looks at once
            "OTEL_BLRP_SCHEDULE_DELAY": "1000",
        }

    def parts(self, data: Path, program: Callable[[str], Path], sentry: Sentry | None) -> dict[str, Part]:
        """In the order in which they are started."""
        parts = {
            "redis": Part(
                command=lambda: redis_command(program("redis-server"), port=self.redis, data=data / "redis"),
                serves=lambda: "PONG" in local.redis_says(self.redis, "PING"),
            ),
            "placement": Part(
                command=lambda: placement_command(program("placement"), port=self.placement, sentry=sentry),
                serves=lambda: local.answers(self.placement),
            ),
            "scheduler": Part(
                command=lambda: scheduler_command(
                    program("scheduler"),
                    port=self.scheduler,
                    metrics=self.scheduler_metrics,
                    data=data / "scheduler",
                    sentry=sentry,
                ),
                serves=lambda: local.answers(self.scheduler),
            ),
        }
        if self.traces:
            parts["traces"] = Part(
                command=lambda: receiver_command(port=self.traces, data=data / "traces"),
                serves=lambda: local.http_ok(f"http://{local.HOST}:{self.traces}/health"),
            )
        if sentry is None:
            return parts
        # Its certificates are there before it listens.
        certifier = Part(
            command=lambda: sentry_command(program("sentry"), sentry), serves=lambda: local.answers(sentry.port)
        )
        return {"sentry": certifier, **parts}
