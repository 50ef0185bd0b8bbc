"""Brewline as it is deployed: in a real Kubernetes, under Dapr's own control plane with mTLS. The order of the tests is
that of a deployment's life; the last one ends it."""

import asyncio
import json
from typing import Any

import pytest
import yaml
from brewery import BACKOFFICE, DATASOURCE, NOTIFICATION, ORDER, PAYMENT, Brewery
from collector import Collector
from deployed import NAMESPACE, ROOT, Deployed, Load, each_is_charged_once, machine_state, place_until_taken, url_of

import manifests
from chassis.ids import new_id
from cluster import HOST_ADDRESS
from stack.eventually import eventually
from stack.local import LocalError

pytestmark = pytest.mark.k8s

SERVICES = (ORDER, PAYMENT, NOTIFICATION, BACKOFFICE, DATASOURCE)
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
STORES = ("redis", "postgres", "sandbox")


async def test_an_order_is_confirmed_charged_once_and_mailed(deployed: Deployed, brewery: Brewery) -> None:
    answer = await brewery.place()

    assert (answer.status_code, answer.json()["status"]) == (201, "confirmed")
    order_id = answer.json()["id"]
    assert await brewery.ledger(order_id) == ["charge"]
    assert await brewery.mailed(order_id) == ["Order Confirmation"]
    assert url_of(ORDER) in deployed.said


async def test_only_order_may_call_payment(deployed: Deployed) -> None:
    path = f"/v1.0/invoke/{PAYMENT}/method/process-payment"

    answered, _ = await deployed.ask_sidecar(NOTIFICATION, path)  # in the end the breaker's word: refusals are repeated
    taken, _ = await deployed.ask_sidecar(ORDER, path)

    assert taken == 422  # payment itself finds that the body is none
    assert answered == 500
    decided = await deployed.sidecar_metrics(PAYMENT)
    for verdict, caller in (("blocked", NOTIFICATION), ("allowed", ORDER)):
        assert f'acl_app_policy_action_{verdict}_total{{app_id="{caller}"' in decided
    assert f'_allowed_total{{app_id="{NOTIFICATION}"' not in decided


async def test_a_rolling_update_fails_no_request_and_loses_no_order(deployed: Deployed, brewery: Brewery) -> None:
    async with Load(brewery, per_second=10) as load:
        await deployed.kubectl("rollout", "restart", f"deployment/{ORDER}")
        await deployed.whole(ORDER)
        await load.more(20)

    assert load.failed == []
    await each_is_charged_once(brewery, load.ids)


async def test_one_replica_becomes_three_and_one_again_under_load(deployed: Deployed, brewery: Brewery) -> None:
    async with Load(brewery, per_second=10) as load:
        for replicas in (3, 1):
            await deployed.kubectl("scale", f"deployment/{ORDER}", f"--replicas={replicas}")
            await deployed.whole(ORDER)
            assert len(await deployed.pods(ORDER)) == replicas
            await load.more(20)

    assert load.failed == []
    await each_is_charged_once(brewery, load.ids)


@pytest.mark.timeout(600)
async def test_an_upgrade_across_a_migration_and_its_rollback_lose_nothing(
    deployed: Deployed, brewery: Brewery, next_version: str
) -> None:
    """The next version adds a column; the one before works on."""
    async with Load(brewery, per_second=10) as load:
        for tag in (next_version, deployed.tag):
            await deployed.deploy(tag)
            await deployed.whole(ORDER)
            await load.more(20)

    assert load.failed == []
    await each_is_charged_once(brewery, load.ids)
    column = "SELECT count(added_next) FROM orders"
    assert int(await deployed.sql("order", column)) >= len(load.ids)


@pytest.mark.timeout(600)
async def test_each_pod_and_each_sidecar_dies_once_during_200_orders(deployed: Deployed, brewery: Brewery) -> None:
    ended = asyncio.Event()
    ids: list[str] = []

    async def customer() -> None:
        while not ended.is_set() or len(ids) < 200:
            ids.append(await place_until_taken(brewery, new_id()))
            await asyncio.sleep(0.5)

    async with asyncio.TaskGroup() as customers:
        for _ in range(4):
            customers.create_task(customer())
        for app_id in SERVICES:
            await deployed.kubectl("delete", "pod", await deployed.pod(app_id), "--wait=false")
            await deployed.whole(app_id)
            await _dies(deployed, app_id, "daprd")
        for store in STORES:
            await _dies(deployed, store, store)
        ended.set()

    assert len(set(ids)) == len(ids) >= 200
    await each_is_charged_once(brewery, ids)


async def _dies(deployed: Deployed, app_id: str, container: str) -> None:
    """One container of a pod, and it comes back."""
    pod = await deployed.pod(app_id)

    async def restarts() -> int:
        states = (await deployed.pods(app_id))[0]["status"]["containerStatuses"]
        return next(state["restartCount"] for state in states if state["name"] == container)

    before = await restarts()
    await asyncio.to_thread(deployed.cluster.kill_container, pod, container)

    async def again() -> bool:
        return await restarts() > before

    await eventually(again, within=60, every=0.3)
    await deployed.whole(app_id)


async def test_logs_traces_and_metrics_of_an_order_are_there(deployed: Deployed, brewery: Brewery) -> None:
    collector = Collector(HOST_ADDRESS)
    try:
        await deployed.tell_telemetry(collector.url, ORDER, PAYMENT)
        answer = await brewery.place(headers={"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"})
        assert answer.status_code == 201

        def told() -> bool:
            seen = {(service, name) for trace, service, name in list(collector.spans.values()) if trace == TRACE_ID}
            # By app and sidecar, on both sides of the call.
            assert {service for service, _ in seen} >= {ORDER, PAYMENT}, seen
            assert any("process-payment" in name.lower() for _, name in seen), seen
            assert (ORDER, "orders_confirmed_total") in collector.metrics
            return True

        await eventually(told, within=30)
    finally:
        collector.close()
    pod = await deployed.pod(ORDER)
    log = [json.loads(line) for line in (await deployed.kubectl("logs", pod, "--container=app")).splitlines()]
    assert any(record.get("order_id") == answer.json()["id"] for record in log)
    assert "dapr_http_server_request_count" in await deployed.sidecar_metrics(ORDER)
    sidecar = (await deployed.kubectl("logs", pod, "--container=daprd")).splitlines()
    assert json.loads(sidecar[0])["app_id"] == ORDER


async def test_the_api_server_would_take_overlay_production_whole(deployed: Deployed) -> None:
    """A dry run against the real definitions of KEDA, Gateway API and External Secrets, whose programs are not here."""
    for definition in manifests.other_crds():
        await deployed.kubectl("apply", "--server-side", "-f", definition)
    await deployed.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    await deployed.kubectl("delete", "jobs", "--all")  # a Job can't be changed, and the other overlay's have its names
    rendered = await deployed.kubectl(
        "kustomize", "--load-restrictor=LoadRestrictionsNone", ROOT / "k8s" / "overlays" / "production"
    )
    dry_run = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")

    said = await deployed.kubectl(*dry_run, stdin=rendered)

    assert len(said.splitlines()) == rendered.count("\n---\n") + 1
    for kind in ("scaledobject.keda.sh", "httproute.gateway.networking.k8s.io", "externalsecret.external-secrets.io"):
        assert kind in said
    # A template is looked at less than what it makes: the pods too, past the namespace's walls and Dapr's injector.
    pods = [_pod_of(each) for each in yaml.safe_load_all(rendered) if each["kind"] == "Deployment"]
    assert len(pods) == len(SERVICES)
    await deployed.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(pods))
    with pytest.raises(LocalError, match="maxReplicas"):
        await deployed.kubectl(*dry_run, stdin=rendered.replace("maxReplicaCount", "maxReplicas"))


def _pod_of(deployment: dict[str, Any]) -> dict[str, Any]:
    template = deployment["spec"]["template"]
    metadata = template["metadata"] | {"name": deployment["metadata"]["name"], "namespace": NAMESPACE}
    metadata["labels"] = {**metadata["labels"], "pod-template-hash": "0"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


async def test_then_nothing_is_left(deployed: Deployed) -> None:
    """No process, mount, namespace, interface, control group, folder or setting of the kernel."""
    folder = deployed.cluster.folder.parent
    deployed.end()

    after = machine_state()
    assert not folder.exists()
    for kind in ("namespaces", "mounts", "interfaces", "groups", "folders"):
        assert getattr(after, kind) <= getattr(deployed.before, kind), kind
    assert after.settings == deployed.before.settings
