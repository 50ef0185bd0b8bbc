"""What `observability/` asks is what Brewline tells: every query finds a series in a real Prometheus, every alert fires
and clears."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml
from brewery import NOTIFICATION, ORDER, PUBLIC, SERVICES, bearer, client_of, order_body
from conftest import ROOT, specs

from stack.eventually import eventually
from stack.local import free_port, need_program
from stack.prometheus import exported_to, running
from stack.sidecars import Stack

pytestmark = pytest.mark.more

FILES = ROOT / "observability"
TOOLS = ROOT / "tools" / "bin"


@pytest.fixture(autouse=True)
def fair_weather() -> None:
    """The stack of this test is its own."""


@pytest.fixture(scope="module")
def otlp_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def told(otlp_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose metrics go where Prometheus will be."""
    folder = tmp_path_factory.mktemp("observed")
    (folder / "data").mkdir()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in exported_to(otlp_port).items():
            environment.setenv(name, value)
        apps = specs(folder / "data")
        with Stack(apps=apps, components=ROOT / "components", run_dir=folder, tools_bin=TOOLS) as stack:
            yield stack


@pytest.fixture(scope="module")
def prometheus(told: Stack, otlp_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("prometheus")
    targets = [told.sidecar_metrics(name) for name in told.apps]
    rules = [FILES / "prometheus-rules.yaml"]
    with running(folder, tools_bin=TOOLS, port=otlp_port, targets=targets, rules=rules) as client:
        yield client


async def some_orders(stack: Stack) -> None:
    """One that is paid, one that is declined, one whose answer is lost; an event that nobody can process; and somebody
    who asks how all are."""
    async with client_of(stack, ORDER, bearer(stack, "staff")) as client:
        for token in ("tok_ok", "tok_declined", "tok_lost_reply"):
            await client.post(PUBLIC, json=order_body(token=token))
    async with client_of(stack, NOTIFICATION, {"dapr-api-token": stack.app_token}) as client:
        await client.post("/events/dead/order-service/notifications", json={"id": "poison"})
    for app_id in SERVICES:
        async with client_of(stack, app_id) as client:
            await client.get("/health")


def queries() -> list[str]:
    panels = json.loads((FILES / "grafana-dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


async def test_every_query_of_the_dashboard_and_of_the_alerts_has_something_to_look_at(
    told: Stack, prometheus: httpx.Client
) -> None:
    def found(query: str) -> list[Any]:
        answer = prometheus.get("/api/v1/query", params={"query": query.replace("$__rate_interval", "1m")})
        return answer.raise_for_status().json()["data"]["result"]

    # Every metric first, so that what happens now is a rise and no beginning.
    await some_orders(told)
    await eventually(lambda: found("orders_failed_total"), within=60)
    await some_orders(told)
    groups = yaml.safe_load((FILES / "prometheus-rules.yaml").read_text())["groups"]
    # What an alert compares is what it looks at: whether it fires is for promtool.
    alerts = [
        rule["expr"].rpartition(" > " if " > " in rule["expr"] else " == ")[0]
        for group in groups
        for rule in group["rules"]
    ]

    def none_is_empty() -> bool:
        empty = [query for query in (*queries(), *alerts) if not found(query)]
        assert empty == []
        return True

    await eventually(none_is_empty, within=60, every=1)
    assert len(queries()) > 20


def test_every_alert_fires_and_clears() -> None:
    promtool = need_program("promtool", TOOLS)
    played = yaml.safe_load((FILES / "prometheus-rules-test.yaml").read_text())["tests"]
    groups = yaml.safe_load((FILES / "prometheus-rules.yaml").read_text())["groups"]
    assert [case["name"] for case in played] == [rule["alert"] for group in groups for rule in group["rules"]]
    for case in played:
        assert [len(moment["exp_alerts"]) for moment in case["alert_rule_test"]] == [1, 0]

    done = subprocess.run(
        [promtool, "test", "rules", FILES / "prometheus-rules-test.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
