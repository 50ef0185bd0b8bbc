"""Who may call whom through the sidecars, under the Configurations of k8s/base and with the certificates they need."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from brewery import BACKOFFICE, DATASOURCE, NOTIFICATION, ORDER, PAYMENT, SERVICES
from conftest import ROOT, specs

import manifests
from stack.sidecars import Stack

BY_ORDER = [("POST", "process-payment"), ("POST", "refund-payment")]
HIDDEN = [("GET", "api/v1/payments"), ("GET", "health/live"), ("GET", "process-payment"), ("POST", "events/orders")]


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each service's Configuration, as its Deployment names it in the cluster."""
    folder = tmp_path_factory.mktemp("policies")
    base = [manifest for _, manifest in manifests.render(manifests.K8S / "base")]
    named: dict[tuple[str, str], Any] = {(each["kind"], each["metadata"]["name"]): each for each in base}
    files: dict[str, Path] = {}
    for app_id in SERVICES:
        annotations = named["Deployment", app_id]["spec"]["template"]["metadata"]["annotations"]
        files[app_id] = folder / f"{app_id}.yaml"
        files[app_id].write_text(yaml.safe_dump(named["Configuration", annotations["dapr.io/config"]]))
    return files


@pytest.fixture(scope="module")
def components(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The components without the retries and breakers: Dapr repeats a refused call, and what the caller sees in the end
    is the breaker's word."""
    folder = tmp_path_factory.mktemp("components")
    kept = shutil.ignore_patterns("resiliency.yaml")
    return Path(shutil.copytree(ROOT / "components", folder, ignore=kept, dirs_exist_ok=True))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, components: Path, policies: dict[str, Path]) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("guarded")
    data = folder / "data"
    data.mkdir()
    with Stack(
        apps=specs(data),
        components=components,
        run_dir=folder,
        tools_bin=ROOT / "tools" / "bin",
        config=policies,
        mtls=True,
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def fair_weather() -> None:
    """The shared stack and its weather have no part in this: what stands here is started for these tests alone."""


class Caller:
    """What an app would send through its own sidecar."""

    def __init__(self, stack: Stack, client: httpx.AsyncClient) -> None:
        self._stack, self._client = stack, client

    async def call(self, caller: str, callee: str, verb: str, path: str) -> httpx.Response:
        url = f"{self._stack.sidecar_url(caller)}/v1.0/invoke/{callee}/method/{path}"
        return await self._client.request(verb, url, json={} if verb == "POST" else None)


@pytest.fixture
async def through(guarded: Stack) -> AsyncIterator[Caller]:
    token = {"dapr-api-token": guarded.dapr_token}
    async with httpx.AsyncClient(timeout=30, trust_env=False, headers=token) as client:
        yield Caller(guarded, client)


def refused_by_dapr(answer: httpx.Response, caller: str) -> bool:
    """Dapr's own error, in the name of the caller's certificate: no app has a word in it."""
    said = answer.json()
    who = f"spiffe://public/ns/brewline/{caller}"
    return (answer.status_code, said.get("errorCode")) == (403, "ERR_DIRECT_INVOKE") and (
        f"access control policy has denied access to id: {who} " in said["message"]
    )


@pytest.mark.parametrize("operation", ["process-payment", "refund-payment"])
async def test_order_may_have_payment_charge_and_refund(through: Caller, operation: str):
    answer = await through.call(ORDER, PAYMENT, "POST", operation)

    said = answer.json()  # payment's own problem document: it has looked at the empty body
    assert answer.status_code in range(400, 500), answer.text
    assert "errorType" in said
    assert "errorCode" not in said


@pytest.mark.parametrize("caller", [ORDER, PAYMENT, NOTIFICATION, DATASOURCE])
async def test_whoever_uses_settings_may_ask_for_them(through: Caller, caller: str):
    answer = await through.call(caller, BACKOFFICE, "POST", "settings-snapshot")

    assert (answer.status_code, answer.json()["next"]) == (200, None)


@pytest.mark.parametrize(("verb", "path"), HIDDEN)
async def test_order_may_do_nothing_else_at_payment(through: Caller, verb: str, path: str):
    answer = await through.call(ORDER, PAYMENT, verb, path)

    assert refused_by_dapr(answer, ORDER), answer.text


async def test_notification_may_deliver_events_again_to_others_and_to_itself(through: Caller):
    others = await through.call(NOTIFICATION, ORDER, "POST", "events/no-topic-of-its")
    own = await through.call(NOTIFICATION, NOTIFICATION, "POST", "events/orders")

    assert (others.status_code, others.json()["errorType"]) == (404, "not-found")  # order's own word
    assert own.json()["status"] == "DROP"  # an empty body is no event


@pytest.mark.parametrize(
    ("callee", "verb", "path"),
    [
        *(
            (callee, verb, path)
            for callee in (ORDER, PAYMENT, BACKOFFICE)
            for verb, path in (*BY_ORDER, *HIDDEN)
            if not path.startswith("events/")
        ),
        (ORDER, "GET", "events/orders"),
        (ORDER, "POST", "events/../api/v1/orders"),
        (ORDER, "POST", "events/%2e%2e/api/v1/orders"),
    ],
)
async def test_notification_may_call_nobody_for_anything_else(through: Caller, callee: str, verb: str, path: str):
    answer = await through.call(NOTIFICATION, callee, verb, path)

    assert refused_by_dapr(answer, NOTIFICATION), answer.text


@pytest.mark.parametrize(("caller", "callee"), [(ORDER, NOTIFICATION), (PAYMENT, NOTIFICATION), (PAYMENT, ORDER)])
@pytest.mark.parametrize(("verb", "path"), HIDDEN)
async def test_whoever_names_no_caller_is_called_by_nobody(
    through: Caller, caller: str, callee: str, verb: str, path: str
):
    answer = await through.call(caller, callee, verb, path)

    assert refused_by_dapr(answer, caller), answer.text
