"""What is answered to one delivery, and that an event is taken once."""

import sqlite3
from base64 import b64encode
from typing import Any, ClassVar

import httpx
import orjson
import pytest
import sqlalchemy as sa
from dapr.ext.fastapi import DaprApp
from fastapi import Request, Response
from sqlalchemy.exc import OperationalError

from chassis.app import create_app
from chassis.db import Database
from chassis.edge.auth import Access
from chassis.edge.rules import Book, routes_of
from chassis.events import CloudEvent, Event, InvalidEvent, consume, first_time, receive
from chassis.health import Health
from chassis.ids import now
from chassis.problems import Unavailable
from chassis.settings import ServiceSettings
from chassis.sidecar import SidecarDown
from chassis.wire import Wire
from stack.fake_sidecar import FakeSidecar

APP_TOKEN = "app-token-of-the-tests"
SUCCESS, RETRY = {"status": "SUCCESS"}, {"status": "RETRY"}


class Data(Wire):
    how_many: int


def envelope(**change: Any) -> dict[str, Any]:
    return {"id": "e-1", "type": "thing.made.v1", "source": "test", "data": {"howMany": 1}} | change


def raising(error: Exception):
    async def handle(_topic: str, _event: CloudEvent) -> None:
        raise error

    return handle


async def test_what_its_handler_took_is_a_success():
    taken: list[tuple[str, CloudEvent]] = []

    async def take(topic: str, event: CloudEvent) -> None:
        taken.append((topic, event))

    answer = await consume("things", envelope(traceparent="00-1", tenantid="t-1", more="ignored"), take)

    assert answer == SUCCESS
    ((topic, event),) = taken
    assert (topic, event.id, event.tenantid, event.traceparent) == ("things", "e-1", "t-1", "00-1")


@pytest.mark.parametrize(
    ("change", "known"),
    [
        (dict.fromkeys(("subject", "source", "traceparent", "time", "tenantname", "data"), None), {"subject": ""}),
        ({"tenantid": None}, {"tenantid": "default"}),
        ({"tenantname": "Kötter\r\n ☕"}, {"tenantname": "Kötter ☕"}),
        ({"tenantname": "n" * 300}, {"tenantname": "n" * 255}),
        ({"data": None, "data_base64": b64encode(b'{"howMany": 2}').decode()}, {"data": {"howMany": 2}}),
    ],
)
async def test_an_event_is_read_as_others_write_it(change: dict[str, Any], known: dict[str, Any]):
    taken: list[CloudEvent] = []

    async def take(_topic: str, event: CloudEvent) -> None:
        taken.append(event)

    assert await consume("things", envelope(**change), take) == SUCCESS
    assert known.items() <= taken[0].model_dump().items()


@pytest.mark.parametrize("encoded", ["", "not base64", b64encode(b"<xml/>").decode(), b64encode(b"\xff").decode(), 7])
async def test_data_that_is_no_json_goes_to_the_dead_letters(encoded: Any):
    async def take(_topic: str, event: CloudEvent) -> None:
        Data.model_validate(event.data)

    assert (await consume("things", envelope(data=None, data_base64=encoded), take))["status"] == "DROP"


@pytest.mark.parametrize(
    "down",
    [
        OperationalError("SELECT", {}, sqlite3.OperationalError("locked")),
        Unavailable("database"),
        SidecarDown(),
        ConnectionResetError(),
        TimeoutError(),
    ],
)
async def test_what_is_down_is_tried_again(down: Exception):
    assert await consume("things", envelope(), raising(down)) == RETRY


@pytest.mark.parametrize("error", [InvalidEvent("no such thing"), ValueError("bug"), KeyError("bug")])
async def test_what_can_never_be_processed_goes_to_the_dead_letters(error: Exception):
    assert (await consume("things", envelope(), raising(error)))["status"] == "DROP"


@pytest.mark.parametrize("body", [{}, {"id": "", "type": "thing.made.v1"}, {"id": "e-1"}, [], None, "text", 7])
async def test_what_is_no_event_goes_to_the_dead_letters(body: Any):
    assert (await consume("things", body, raising(AssertionError())))["status"] == "DROP"


async def test_data_that_is_not_what_the_handler_declared_goes_to_the_dead_letters():
    async def take(_topic: str, event: CloudEvent) -> None:
        Data.model_validate(event.data)

    dropped = await consume("things", envelope(data={"howMany": "many"}), take)
    assert dropped == {"status": "DROP", "reason": "howMany: int_parsing"}
    assert await consume("things", envelope(data={"howMany": 2, "unknown": 1}), take) == SUCCESS


async def test_a_topic_that_is_subscribed_in_code_is_the_sidecars_alone_and_no_part_of_the_api():
    async def deliver(request: Request) -> Response:
        return await receive(request, "things", raising(Unavailable("database")))

    app = create_app(
        title="test",
        settings=ServiceSettings(app_port=1, dapr_http_port=1, app_api_token=APP_TOKEN),
        sidecar=FakeSidecar(),
        rules={"POST /events/things": Access.SIDECAR},
        health=Health({}),
        refusals={},
    )
    dead = "things.test.dead"
    DaprApp(app).subscribe(pubsub="p", topic="things", route="/events/things", dead_letter_topic=dead)(deliver)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        strangers = [await client.post("/events/things", json=envelope()), await client.get("/dapr/subscribe")]
        client.headers["dapr-api-token"] = APP_TOKEN
        subscribed = await client.get("/dapr/subscribe")
        delivered = await client.post("/events/things", json=envelope())
        large = await client.post("/events/things", json=envelope(data={"how_many": 1, "more": "x" * 4_000_000}))

    assert [answer.status_code for answer in strangers] == [401, 401]
    topic = {"pubsubname": "p", "topic": "things", "route": "/events/things", "metadata": {}}
    assert subscribed.json() == [topic | {"deadLetterTopic": dead}]
    assert (delivered.status_code, delivered.json()) == (200, RETRY)
    assert (large.status_code, large.json()) == (200, RETRY)  # a 413 would come again without end
    assert routes_of(app) == Book({"POST /events/things": Access.SIDECAR}).rules.keys() - {
        *("POST /job/{name}", "GET /api/v1/recurring", "POST /api/v1/recurring/{name}/run")  # it has no jobs
    }
    assert not [path for path in app.openapi()["paths"] if path.startswith(("/events", "/dapr"))]


def delivery(body: bytes) -> Request:
    async def arrived() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    return Request({"type": "http", "method": "POST", "headers": []}, arrived)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
async def test_a_delivery_that_is_no_json_goes_to_the_dead_letters(body: bytes):
    answer = await receive(delivery(body), "things", raising(AssertionError()))

    assert (answer.status_code, orjson.loads(answer.body)["status"]) == (200, "DROP")


EVENT = {"tenant": "t", "consumer": "a", "source": "/s", "event_id": "e-1"}


@pytest.fixture
def is_new(db: Database, metadata: sa.MetaData):
    table = metadata.tables["event_processing"]
    return lambda **changed: db.write(lambda conn: first_time(conn, table, **EVENT | changed))


async def test_an_event_is_new_once_for_each_consumer(is_new):
    assert [await is_new(), await is_new(), await is_new(consumer="b"), await is_new(event_id="e-2")] == [
        True,
        False,
        True,
        True,
    ]


async def test_ids_are_unique_in_their_source_only(is_new):
    assert [await is_new(), await is_new(source="/other"), await is_new(source="/other")] == [True, True, False]


async def test_what_was_taken_before_sources_were_kept_is_not_new(db: Database, metadata: sa.MetaData, is_new):
    table = metadata.tables["event_processing"]
    old = {name: value for name, value in EVENT.items() if name != "source"} | {"processed_at": now()}
    await db.write(lambda conn: conn.execute(sa.insert(table).values(old)))

    assert [await is_new(), await is_new(source="/other"), await is_new(event_id="e-2")] == [False, False, True]


async def test_an_event_whose_effect_was_undone_is_new_again(db: Database, metadata: sa.MetaData, is_new):
    def broken(conn: sa.Connection) -> None:
        assert first_time(conn, metadata.tables["event_processing"], **EVENT)
        raise InvalidEvent

    with pytest.raises(InvalidEvent):
        await db.write(broken)

    assert await is_new()


def test_a_version_below_one_is_no_fact():
    class Made(Event):
        topic: ClassVar[str] = "things"
        type: ClassVar[str] = "thing.made.v1"

    with pytest.raises(ValueError, match="version"):
        Made(version=0)
