"""A Prometheus for tests: it takes what apps export by OTLP, and scrapes their sidecars."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from stack.local import HOST, http_ok, need_program
from stack.processes import Processes


def exported_to(port: int) -> Mapping[str, str]:
    """What apps are told in order to export there every second."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{port}/api/v1/otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_INSECURE": "true",
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    }


@contextmanager
def running(
    folder: Path, *, tools_bin: Path, port: int, targets: Sequence[str], rules: Sequence[Path] = ()
) -> Generator[httpx.Client]:
    """`targets` are hosts and ports of sidecars' metrics. Yields a client of its API."""
    config = folder / "prometheus.yaml"
    scraped = {"job_name": "daprd", "static_configs": [{"targets": list(targets)}]}
    whole = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [scraped],
        "rule_files": [str(rule) for rule in rules],
    }
    config.write_text(yaml.safe_dump(whole))
    processes = Processes(folder, logs=folder / "logs", cwd=folder)
    address = f"{HOST}:{port}"
    command: list[str | Path] = [need_program("prometheus", tools_bin), f"--config.file={config}"]
    command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}", "--web.enable-otlp-receiver"]
    try:
        processes.start("prometheus", command)
        processes.wait_for("prometheus", lambda: http_ok(f"http://{address}/-/ready"), within=60)
        with httpx.Client(base_url=f"http://{address}", trust_env=False) as client:
            yield client
    finally:
        processes.end()
