"""`make histories`: what the workflow engine has on record of each workflow of today's code, on real sidecars, to
`tests/histories/<service>/<workflow>.<version>.<what happened>.json`. tests/contracts/test_histories.py replays them.

A name that has "waiting" is of a run that stood still: what a later release meets where it takes over.
"""

import asyncio
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
from brewery import BACKOFFICE, NOTIFICATION, ORDER, PUBLIC, Brewery, Notices, bearer, client_of, workflows
from conftest import QUICK, ROOT, components, specs
from dapr.ext.workflow._durabletask.internal import protos as pb
from dapr.ext.workflow._durabletask.internal.orchestrator_service_pb2_grpc import TaskHubSidecarServiceStub
from google.protobuf.json_format import MessageToDict
from test_communications import application

from chassis.ids import new_id
from chassis.story import Reference
from chassis.takeover import instance_id
from notification.incoming.saga import WORKFLOW as TELL_IN_TURN
from order.health_monitor import WORKFLOW as HEALTH_CHECK
from order.saga import WORKFLOW as FULFIL_ORDER
from stack.eventually import eventually
from stack.sidecars import Stack

HISTORIES = ROOT / "tests" / "histories"
TENANT = "default"
UNAVAILABLE, REFUSED = {"mode": "error", "status": 503}, {"mode": "error", "status": 422}

History = Sequence[pb.HistoryEvent]


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        apps = specs(folder, times=QUICK)
        stack = Stack(apps=apps, components=components(folder / "given"), run_dir=folder, tools_bin=ROOT / "tools/bin")
        with stack:
            asyncio.run(record(stack))


async def record(stack: Stack) -> None:
    async with AsyncExitStack() as opened:
        api = await opened.enter_async_context(client_of(stack, ORDER, bearer(stack, "staff")))
        sandbox = await opened.enter_async_context(client_of(stack, "sandbox"))
        notices = await opened.enter_async_context(client_of(stack, NOTIFICATION, bearer(stack, "admin")))
        office = await opened.enter_async_context(client_of(stack, BACKOFFICE, bearer(stack, "admin", sub="a-1")))
        brew = Brewery(stack, api, sandbox)
        await orders(brew)
        await told(brew, Notices(notices))
        await exported(brew, office)
        keep(ORDER, HEALTH_CHECK, "kept", await until(brew.stack, ORDER, "HealthMonitor", ended))


# --- what happens ---


async def orders(brew: Brewery) -> None:
    """The durable driver over orders that the inline one has ended, and over some that it could not."""
    confirmed = (await brew.place()).json()["id"]
    keep(ORDER, FULFIL_ORDER, "confirmed", await driven(brew, confirmed))
    declined = (await brew.place(token="tok_declined")).json()["orderId"]
    keep(ORDER, FULFIL_ORDER, "given_back", await driven(brew, declined))

    await everywhere(brew, UNAVAILABLE)
    unknown, cancelled = [await brew.place_async(id=f"c-{number}") for number in range(2)]
    keep(ORDER, FULFIL_ORDER, "charge_waiting", await until(brew.stack, ORDER, of_order(unknown), timers(2)))
    await until(brew.stack, ORDER, of_order(cancelled), timers(1))
    (await brew.api.post(f"{PUBLIC}/{cancelled}/cancel")).raise_for_status()
    await brew.fair()
    keep(ORDER, FULFIL_ORDER, "confirmed_late", await until(brew.stack, ORDER, of_order(unknown), ended))
    # What was cancelled before it was charged is settled: it was declined, or charged and paid back.
    keep(ORDER, FULFIL_ORDER, "cancelled_early", await until(brew.stack, ORDER, of_order(cancelled), ended))

    owed = (await brew.place()).json()["id"]
    brew.write(ORDER, "UPDATE orders SET status = 'cancelled', payment_status = 'refund_pending' WHERE id = ?", owed)
    await everywhere(brew, REFUSED)
    await begin(brew, owed)
    keep(ORDER, FULFIL_ORDER, "refund_waiting", await until(brew.stack, ORDER, of_order(owed), timers(2)))
    await brew.fair()
    paid = (await brew.place()).json()["id"]
    brew.write(ORDER, "UPDATE orders SET status = 'cancelled', payment_status = 'refund_pending' WHERE id = ?", paid)
    keep(ORDER, FULFIL_ORDER, "refunded", await driven(brew, paid))


async def told(brew: Brewery, notices: Notices) -> None:
    branch = f"B-{new_id()[-8:]}"
    await notices.recipient(groups=[f"branch:{branch}"])
    await brew.fault("smtp", mode="ok", delayMs=6000)
    data = application("+254700001234", branch)
    await brew.publish_to("loan-origination", "LoanApplicationCreated", data)
    saga = instance_id(Reference(tenant=TENANT, id=data["eventId"]))
    keep(NOTIFICATION, TELL_IN_TURN, "waiting", await until(brew.stack, NOTIFICATION, saga, timers(1)))
    await brew.fair()
    keep(NOTIFICATION, TELL_IN_TURN, "told", await until(brew.stack, NOTIFICATION, saga, ended))


async def exported(brew: Brewery, office: httpx.AsyncClient) -> None:
    answer = await office.post("/api/v1/exports", json={"kind": "orders", "format": "csv"})
    job = instance_id(Reference(tenant=TENANT, id=answer.raise_for_status().json()["jobId"]))
    keep(BACKOFFICE, "export_job", "finished", await until(brew.stack, BACKOFFICE, job, ended))


async def everywhere(brew: Brewery, fault: dict[str, Any]) -> None:
    for provider in await brew.payment_providers():
        await brew.fault(provider, **fault)


# --- the engine ---


def of_order(order_id: str) -> str:
    return instance_id(Reference(tenant=TENANT, id=order_id))


async def begin(brew: Brewery, order_id: str) -> None:
    given = {"reference": Reference(tenant=TENANT, id=order_id).model_dump(mode="json"), "attempt": 0}
    async with workflows(brew.stack) as engine:
        started = await engine.post(f"{FULFIL_ORDER}/start", params={"instanceID": of_order(order_id)}, json=given)
        started.raise_for_status()


async def driven(brew: Brewery, order_id: str) -> History:
    await begin(brew, order_id)
    return await until(brew.stack, ORDER, of_order(order_id), ended)


async def history(stack: Stack, app_id: str, instance: str) -> History:
    address = f"127.0.0.1:{stack.app_env(app_id)['DAPR_GRPC_PORT']}"
    async with grpc.aio.insecure_channel(address) as channel:
        ask = TaskHubSidecarServiceStub(channel).GetInstanceHistory
        token = (("dapr-api-token", stack.dapr_token),)
        try:
            return (await ask(pb.GetInstanceHistoryRequest(instanceId=instance), metadata=token)).events
        except grpc.aio.AioRpcError as refused:
            if refused.code() not in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNKNOWN}:
                raise
            return []  # not begun


async def until(stack: Stack, app_id: str, instance: str, there: Callable[[History], bool]) -> History:
    async def look() -> History | None:
        found = await history(stack, app_id, instance)
        return found if there(found) else None

    return await eventually(look, within=90, every=0.2)


def ended(events: History) -> bool:
    return any(event.HasField("executionCompleted") for event in events)


def timers(count: int) -> Callable[[History], bool]:
    return lambda events: sum(event.HasField("timerCreated") for event in events) >= count


def keep(app_id: str, workflow: str, happened: str, events: History) -> None:
    """One file, and none of what another version of the story once did is touched."""
    version = next(event.workflowStarted.version.name for event in events if event.HasField("workflowStarted"))
    file = HISTORIES / app_id.removesuffix("-service") / f"{workflow}.{version}.{happened}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    for event in events:
        if event.HasField("taskFailed"):
            event.taskFailed.failureDetails.ClearField("stackTrace")  # it names this machine's folders
    file.write_text(json.dumps([MessageToDict(event) for event in events], indent=1) + "\n")
    print(f"{file.relative_to(ROOT)}: {len(events)} events")  # noqa: T201


if __name__ == "__main__":
    main()
