"""Who may have order's workflows run: by the policy of k8s/base order alone, and without it everybody who shares the
workflow engine's store."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from brewery import NOTIFICATION, ORDER
from conftest import ROOT, specs

import manifests
from order.saga import WORKFLOW
from stack.eventually import eventually
from stack.sidecars import AppSpec, Stack

GUARDED, OPEN = "guarded", "open"


@pytest.fixture(scope="module", params=[GUARDED, OPEN])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Order, and an intruder with notification's certificate."""
    folder = tmp_path_factory.mktemp(request.param)
    components, data = folder / "declared", folder / "data"
    shutil.copytree(ROOT / "components", components)
    data.mkdir()
    if request.param == GUARDED:
        base = [manifest for _, manifest in manifests.render(manifests.K8S / "base")]
        policies = [manifest for manifest in base if manifest["kind"] == "WorkflowAccessPolicy"]
        (components / "policies.yaml").write_text(yaml.safe_dump_all(policies))
    ours = [spec for spec in specs(data) if spec.app_id in {"sandbox", ORDER}]
    intruder = AppSpec(app_id=NOTIFICATION, command=[sys.executable, str(Path(__file__).with_name("intruder.py"))])
    with Stack(
        apps=[*ours, intruder], components=components, run_dir=folder, tools_bin=ROOT / "tools" / "bin", mtls=True
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def fair_weather() -> None:
    """The shared stack and its weather have no part in this."""


async def ended(stack: Stack, caller: str, workflow: str, asked: dict[str, Any]) -> dict[str, Any]:
    """How a run ended that the caller's own sidecar was asked for."""
    url, token = f"{stack.sidecar_url(caller)}/v1.0/workflows/dapr", {"dapr-api-token": stack.dapr_token}
    async with httpx.AsyncClient(trust_env=False, headers=token, timeout=30) as client:
        started = await client.post(f"{url}/{workflow}/start", json=asked)
        assert started.status_code == 202, started.text

        async def look() -> dict[str, Any] | None:
            answer = await client.get(f"{url}/{started.json()['instanceID']}")
            assert answer.status_code == 200, answer.text  # not yet: the engine may be writing what it reads
            return answer.json() if answer.json()["runtimeStatus"] in {"COMPLETED", "FAILED"} else None

        return await eventually(look)


async def test_a_saga_of_orders_is_not_anothers_to_start(stack: Stack, request: pytest.FixtureRequest):
    run = await ended(stack, NOTIFICATION, "intrude", {"app": ORDER, "workflow": WORKFLOW, "input": {}})

    assert run["runtimeStatus"] == "FAILED"
    said = run["properties"]["dapr.workflow.failure.error_message"]
    guarded = request.node.callspec.params["stack"] == GUARDED
    # Where it is let in, order's own code has missed something in the empty input.
    assert ("access denied by workflow access policy" in said, "'attempt'" in said) == (guarded, not guarded), said


async def test_order_starts_its_own(stack: Stack):
    run = await ended(stack, ORDER, WORKFLOW, {})

    said = run["properties"]["dapr.workflow.failure.error_message"]
    assert "'attempt'" in said, said
