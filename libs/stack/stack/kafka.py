"""A Kafka broker for tests, of one process that is its own controller, on the jars of `tools/setup.sh kafka`. Nothing
of it outlives whoever started it."""

import shutil
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from stack import local
from stack.processes import Processes, Reaper

READY = 60.0
PARTITIONS = 8  # of every topic, which the broker makes at its first use; docs/operations.md makes them by hand

_GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
_FORMAT = "kafka.tools.StorageTool"
_CLUSTER = "YnJld2xpbmUtdGVzdC0wMQ"  # 16 bytes, as Kafka writes them


@dataclass(frozen=True, kw_only=True)
class Lag:
    """Of one consumer group on one partition; `member` is empty where nobody reads it."""

    topic: str
    partition: int
    waiting: int
    member: str


@dataclass(frozen=True, kw_only=True)
class Kafka:
    """A running broker."""

    port: int
    jars: Path

    @property
    def address(self) -> str:
        return f"{local.HOST}:{self.port}"

    def lag(self, group: str) -> list[Lag]:
        """Of each partition how many events a group has not handled, as `kafka-consumer-groups.sh` tells it."""
        told = _java(self.jars, _GROUPS, "--bootstrap-server", self.address, "--describe", "--group", group)
        rows = [line.split() for line in told.splitlines()]
        return [
            Lag(topic=row[1], partition=int(row[2]), waiting=_number(row[5]), member="" if row[6] == "-" else row[6])
            for row in rows
            if len(row) > 6 and row[0] == group
        ]


def missing(tools_bin: Path) -> list[str]:
    """What a broker lacks here."""
    there = {"java": shutil.which("java"), str(tools_bin / "kafka"): (tools_bin / "kafka").is_dir()}
    return [name for name, found in there.items() if not found]


@contextmanager
def running(tools_bin: Path) -> Generator[Kafka]:
    jars = tools_bin / "kafka"
    with TemporaryDirectory(prefix="brewline-kafka-", dir=local.scratch()) as folder:
        run = Path(folder).resolve()
        kafka = Kafka(port=local.free_port(), jars=jars)
        settings = run / "server.properties"
        settings.write_text(_properties(_settings(kafka, controller=local.free_port(), data=run / "data")))
        _java(jars, _FORMAT, "format", "--cluster-id", _CLUSTER, "--config", str(settings))
        processes = Processes(run, logs=run / "logs", cwd=run)
        reaper = Reaper(run)
        try:
            processes.start("kafka", _command(jars, "512m", "kafka.Kafka", str(settings)))
            processes.wait_for("kafka", lambda: local.answers(kafka.port), within=READY)
            yield kafka
        finally:
            processes.end()
            reaper.dismiss()


def _settings(kafka: Kafka, *, controller: int, data: Path) -> Mapping[str, str | int]:
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{local.HOST}:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{kafka.address},CONTROLLER://{local.HOST}:{controller}",
        "log.dirs": str(data),
        "num.partitions": PARTITIONS,
        # Alone, it keeps no copies; and nobody waits for other consumers to come.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": PARTITIONS,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
    }


def _properties(settings: Mapping[str, str | int]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _java(jars: Path, *words: str) -> str:
    """What a tool prints; raises `LocalError` with its last words."""
    done = subprocess.run(_command(jars, "128m", *words), capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise local.LocalError(f"{words[0]} failed: {(done.stdout + done.stderr).strip()[-500:]}")
    return done.stdout


def _command(jars: Path, heap: str, *words: str) -> list[str]:
    logs = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    # Started quickly matters more here than fast in the long run.
    return ["java", f"-Xmx{heap}", "-XX:TieredStopAtLevel=1", logs, "-cp", f"{jars}/*", *words]


def _number(word: str) -> int:
    return int(word) if word.isdigit() else 0
