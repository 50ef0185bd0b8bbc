"""The client against a small server that answers as Dapr 1.18 does."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import orjson
import pytest
from aiohttp import web

from chassis.sidecar import Answer, Sidecar, SidecarDown, Verdict, to_json
from stack.local import free_port


class Dapr:
    """Answers what it was told; keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any, dict[str, str]]] = {}
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []
        self.port = free_port()

    def will(self, call: str, status: int, body: Any = None, **headers: str) -> None:
        self.answers[call] = (status, body, headers)

    async def handle(self, request: web.Request) -> web.Response:
        content = await request.read()
        sent = orjson.loads(content) if content else None
        self.asked.append((request.method, request.path_qs, sent, dict(request.headers)))
        status, body, headers = self.answers.get(f"{request.method} {request.path}", (204, None, {}))
        content = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        return web.Response(status=status, body=content, headers=headers)

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{any:.*}", self.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        return runner


@pytest.fixture
async def dapr() -> AsyncIterator[Dapr]:
    made = Dapr()
    runner = await made.start()
    yield made
    await runner.cleanup()


@pytest.fixture
async def sidecar(dapr: Dapr) -> AsyncIterator[Sidecar]:
    made = Sidecar(port=dapr.port, source="test-service", api_token="secret")
    await made.start()
    dapr.asked.clear()
    yield made
    await made.stop()


@pytest.fixture
async def nobody() -> AsyncIterator[Sidecar]:
    made = Sidecar(port=free_port(), source="test-service")
    await made.start()
    yield made
    await made.stop()


async def test_an_answer_of_the_callee_is_a_value_whatever_its_status(dapr: Dapr, sidecar: Sidecar):
    dapr.will("POST /v1.0/invoke/app/method/do", 409, {"errorType": "taken"})

    answer = await sidecar.invoke("app", "do", {"a": 1}, headers={"X-Tenant-Id": "t-1"})

    assert answer == Answer(status=409, data={"errorType": "taken"})
    assert not answer.from_sidecar
    [(method, path, body, headers)] = dapr.asked
    assert (method, path, body) == ("POST", "/v1.0/invoke/app/method/do", {"a": 1})
    assert (headers["X-Tenant-Id"], headers["dapr-api-token"]) == ("t-1", "secret")


def test_a_decimal_is_a_number_digit_for_digit_and_nothing_else_is():
    exact = {text: Decimal(text) for text in ("9.00", "900", "0.0005", "12345678901234.5678", "1E+3")}

    assert to_json(list(exact.values())) == b"[9.00,900,0.0005,12345678901234.5678,1000]"
    for wrong in (Decimal("NaN"), Decimal("Infinity"), object()):
        with pytest.raises(TypeError):
            to_json({"amount": wrong})


async def test_an_error_of_daprs_own_is_told_from_the_callees(dapr: Dapr, sidecar: Sidecar):
    dapr.will("GET /v1.0/invoke/app/method/look", 500, {"errorCode": "ERR_DIRECT_INVOKE", "message": "x"})

    assert (await sidecar.invoke("app", "look?key=1", verb="GET")).from_sidecar
    assert dapr.asked[0][1] == "/v1.0/invoke/app/method/look?key=1"


BREAKER_OPEN = {"errorCode": "ERR_DIRECT_INVOKE", "message": "failed to invoke, id: app, err: circuit breaker is open"}


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Answer(status=200, data={"done": True}), Verdict.ANSWERED),
        (Answer(status=204, data=None), Verdict.ANSWERED),
        (Answer(status=400, data={"errorCode": "bad_request"}), Verdict.REFUSED),
        (Answer(status=400, data={"errorCode": 17}), Verdict.REFUSED),
        (Answer(status=404, data=None), Verdict.REFUSED),
        (Answer(status=422, data=["no"]), Verdict.REFUSED),
        *[(Answer(status=status, data=None), Verdict.UNKNOWN) for status in (100, 302, 408, 409, 425, 429, 500, 503)],
        (Answer(status=500, data={"errorCode": "oops"}), Verdict.UNKNOWN),
        (Answer(status=400, data={"errorCode": "ERR_DIRECT_INVOKE"}), Verdict.UNKNOWN),
        (Answer(status=404, data={"errorCode": "DAPR_INVOKE_NOT_FOUND"}), Verdict.UNKNOWN),
        (Answer(status=200, data={"errorCode": "ERR_DIRECT_INVOKE"}), Verdict.UNKNOWN),
        (Answer(status=500, data=BREAKER_OPEN, seconds=0.001), Verdict.NOT_SENT),
        (Answer(status=500, data=BREAKER_OPEN, seconds=0.3), Verdict.UNKNOWN),
    ],
)
def test_what_an_answer_says_of_what_was_asked_for(answer: Answer, verdict: Verdict):
    assert answer.verdict is verdict


async def test_an_answer_that_is_no_json_has_no_data(dapr: Dapr, sidecar: Sidecar):
    dapr.will("POST /v1.0/invoke/app/method/do", 502, b"<html>")

    assert await sidecar.invoke("app", "do") == Answer(status=502, data=None)


async def test_without_a_sidecar_every_call_says_so(nobody: Sidecar):
    assert not nobody.alive
    with pytest.raises(SidecarDown):
        nobody.require()
    for attempt in (
        nobody.invoke("app", "do"),
        nobody.publish("pubsub", "things", []),
        nobody.get_state("store", "key"),
        nobody.insert_state("store", "key", 1, ttl_seconds=1),
        nobody.delete_state("store", "key", "1"),
        nobody.start_workflow("story", "id", None),
        nobody.get_job("sweep"),
        nobody.put_job("sweep", "@every 1s"),
    ):
        with pytest.raises(SidecarDown):
            await attempt


async def test_before_its_start_it_is_down():
    with pytest.raises(SidecarDown):
        await Sidecar(port=1, source="test-service").invoke("app", "do")


@pytest.mark.parametrize(("status", "alive"), [(204, True), (500, False)])
async def test_the_check_at_start_says_whether_the_sidecar_is_ready(dapr: Dapr, status: int, alive: bool):
    dapr.will("GET /v1.0/healthz/outbound", status)
    sidecar = Sidecar(port=dapr.port, source="test-service")

    await sidecar.start()
    await sidecar.stop()

    assert sidecar.alive is alive


async def test_a_bulk_carries_whole_cloud_events(dapr: Dapr, sidecar: Sidecar):
    event = {"id": "e-1", "type": "thing.made.v1", "subject": "t-1", "data": {"version": 1}}

    assert await sidecar.publish("pubsub", "things", [event]) == {}

    [(_, path, body, _)] = dapr.asked
    assert path == "/v1.0/publish/bulk/pubsub/things"
    # By its key a broker with partitions keeps all that is told of one thing in order.
    kept = {"contentType": "application/cloudevents+json", "metadata": {"partitionKey": "t-1"}}
    assert body == [{"entryId": "e-1", "event": event, **kept}]


async def test_entries_that_failed_are_named_with_their_errors(dapr: Dapr, sidecar: Sidecar):
    failed = [{"entryId": "e-2", "error": "too big"}]
    dapr.will("POST /v1.0/publish/bulk/pubsub/things", 500, {"failedEntries": failed, "errorCode": "ERR_PUBSUB"})
    events = [{"id": f"e-{n}", "type": "thing.made.v1", "subject": "t-1", "data": {}} for n in (1, 2)]

    assert await sidecar.publish("pubsub", "things", events) == {"e-2": "too big"}


async def test_a_bulk_that_failed_as_a_whole_is_a_broker_that_is_down(dapr: Dapr, sidecar: Sidecar):
    dapr.will("POST /v1.0/publish/bulk/pubsub/things", 500, {"errorCode": "ERR_PUBSUB_PUBLISH_MESSAGE"})

    with pytest.raises(SidecarDown) as down:
        await sidecar.publish(
            "pubsub", "things", [{"id": "e-1", "type": "thing.made.v1", "subject": "t-1", "data": {}}]
        )

    assert down.value.what == "broker"


async def test_state_is_read_with_its_etag_and_absence_is_no_error(dapr: Dapr, sidecar: Sidecar):
    dapr.will("GET /v1.0/state/store/there", 200, {"a": 1}, ETag="7")
    dapr.will("GET /v1.0/state/store/broken", 500, {"errorCode": "ERR_STATE_GET"})

    assert await sidecar.get_state("store", "there") == ({"a": 1}, "7")
    assert await sidecar.get_state("store", "absent") == (None, "")
    with pytest.raises(SidecarDown) as down:
        await sidecar.get_state("store", "broken")
    assert down.value.what == "store"


async def test_an_insert_is_first_write_with_a_time_to_live_and_a_conflict_is_false(dapr: Dapr, sidecar: Sidecar):
    assert await sidecar.insert_state("store", "key", {"a": 1}, ttl_seconds=60)
    dapr.will("POST /v1.0/state/store", 500, {"errorCode": "ERR_STATE_SAVE", "message": "possible etag mismatch"})
    assert not await sidecar.insert_state("store", "key", {"a": 2}, ttl_seconds=60)

    [entry] = dapr.asked[0][2]
    assert entry == {
        "key": "key",
        "value": {"a": 1},
        "options": {"concurrency": "first-write"},
        "metadata": {"ttlInSeconds": "60"},
    }


async def test_a_delete_names_the_version_it_means(dapr: Dapr, sidecar: Sidecar):
    assert await sidecar.delete_state("store", "key", "7")
    dapr.will("DELETE /v1.0/state/store/key", 409, {"errorCode": "ERR_STATE_DELETE"})
    assert not await sidecar.delete_state("store", "key", "6")

    assert dapr.asked[0][3]["If-Match"] == "7"


async def test_a_workflow_that_is_running_already_is_fine_and_an_engine_that_is_down_is_not(
    dapr: Dapr, sidecar: Sidecar
):
    path = "POST /v1.0/workflows/dapr/story/start"
    dapr.will(path, 202, {"instanceID": "i-1"})
    await sidecar.start_workflow("story", "i-1", {"a": 1})
    dapr.will(
        path, 500, {"errorCode": "ERR_START_WORKFLOW", "message": "an active workflow with ID 'i-1' already exists"}
    )
    await sidecar.start_workflow("story", "i-1", {"a": 1})
    dapr.will(path, 500, {"errorCode": "ERR_START_WORKFLOW", "message": "no scheduler"})

    with pytest.raises(SidecarDown):
        await sidecar.start_workflow("story", "i-1", {"a": 1})

    assert dapr.asked[0][1:3] == ("/v1.0/workflows/dapr/story/start?instanceID=i-1", {"a": 1})


async def test_a_job_is_read_and_registered(dapr: Dapr, sidecar: Sidecar):
    dapr.will("GET /v1.0/jobs/there", 200, {"name": "there", "schedule": "@every 30s"})
    dapr.will("GET /v1.0/jobs/absent", 500, {"errorCode": "DAPR_SCHEDULER_GET_JOB"})
    dapr.will("POST /v1.0/jobs/broken", 500, {"errorCode": "DAPR_SCHEDULER_SCHEDULE_JOB"})

    assert (await sidecar.get_job("there"))["schedule"] == "@every 30s"
    assert await sidecar.get_job("absent") is None
    await sidecar.put_job("sweep", "@every 30s")
    with pytest.raises(SidecarDown):
        await sidecar.put_job("broken", "@every 30s")

    assert dapr.asked[-2][2] == {"schedule": "@every 30s", "data": "sweep", "overwrite": True}
