import re
import sqlite3
from contextlib import closing

import pytest

from chassis.edge.rules import Book
from chassis.sidecar import Answer
from notification.access import RULES
from notification.domain import ChannelName
from stack.eventually import eventually

ITEM = {
    "id", "eventId", "recipientId", "channel", "category", "template", "locale", "status", "subject", "content",
    "subjectId", "attempts", "error", "provider", "segments", "cost",
    "createdAt", "nextAttemptAt", "sentAt", "deliveredAt",
}  # fmt: skip


async def deliver(client, *bodies):
    for body in bodies:
        assert (await client.post("/events/orders", json=body)).json() == {"status": "SUCCESS"}


async def listed(client, **query):
    answer = await client.get("/api/v1/notifications", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_event_ends_in_the_inbox_and_in_the_history(client, inbox, sidecar, event):
    told = event("order.status-changed.v1", status="ready", version=4, traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    await deliver(client, told, told)

    async def sent():
        items = (await listed(client))["items"]
        return items if [item["status"] for item in items] == ["sent", "sent"] else None

    found = await eventually(sent, every=0.01)
    assert found
    push, email = found
    assert set(email) == ITEM
    assert (email["channel"], email["subject"]) == ("email", "Ada, your order is ready")
    assert (push["channel"], push["subject"], push["recipientId"]) == ("push", None, "c-1")
    assert [mail["Message-ID"] for mail in inbox.mails] == [f"<{email['id']}@brewline>"]
    assert push["content"] == "prepared"
    (token,) = re.findall(r"token=(\S+)>", inbox.mails[0]["List-Unsubscribe"])
    text = inbox.mails[0].get_body(("plain",)).get_content()
    assert f"/api/v1/unsubscribe?token={token}" in text
    assert email["content"].split() == text.replace(token, "…").split()
    assert inbox.mails[0]["traceparent"].split("-")[1] == "a" * 32
    assert [body["status"] for _, body in sidecar.invoked] == ["prepared"]
    one = (await client.get(f"/api/v1/notifications/{email['id']}")).json()
    (attempt,) = one.pop("tries")
    assert one == email
    assert (attempt["channel"], attempt["outcome"], attempt["error"]) == ("email", "delivered", None)


async def test_what_was_not_sent_is_sent_after_a_restart(running, inbox, mail_server, database_url, event):
    await mail_server.stop()
    async with running() as client:
        await deliver(client, event())
        await eventually(lambda: _attempted(client), every=0.01)
    await mail_server.start()
    make_due(database_url)
    async with running():
        await eventually(lambda: inbox.mails)


def make_due(database_url):
    """What two seconds do."""
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE notifications SET next_attempt_at = created_at")


async def _attempted(client):
    return (await listed(client))["items"][0]["attempts"]


@pytest.fixture
async def five(client, event):
    for number in range(5):
        customer = {"id": f"c-{number % 2}", "name": "Ada", "email": "ada@example.com"}
        await deliver(client, event(orderId=f"o-{number}", customer=customer))
    return client


async def test_pages_are_newest_first_by_number_and_by_cursor(five):
    first = await listed(five, pageSize=2)
    assert [item["subjectId"] for item in first["items"]] == ["o-4", "o-3"]
    second = await listed(five, pageSize=2, cursor=first["next"])
    assert [item["subjectId"] for item in second["items"]] == ["o-2", "o-1"]
    assert [item["subjectId"] for item in (await listed(five, pageSize=2, page=2))["items"]] == ["o-2", "o-1"]
    last = await listed(five, pageSize=2, cursor=second["next"])
    assert [item["subjectId"] for item in last["items"]] == ["o-0"]
    assert last["next"] is None
    assert await listed(five, page=9) == {"items": [], "next": None}


async def test_a_cursor_holds_its_place_while_news_arrive(five, event):
    first = await listed(five, pageSize=2)
    await deliver(five, event(orderId="o-new"))
    second = await listed(five, pageSize=2, cursor=first["next"])
    assert [item["subjectId"] for item in second["items"]] == ["o-2", "o-1"]


async def test_filters_narrow_the_list_and_times_are_inclusive(five):
    assert len((await listed(five, recipientId="c-1"))["items"]) == 2
    assert [item["subjectId"] for item in (await listed(five, subjectId="o-3"))["items"]] == ["o-3"]
    assert (await listed(five, channel=ChannelName.PUSH))["items"] == []
    middle = (await listed(five, subjectId="o-2"))["items"][0]["createdAt"]
    assert len((await listed(five, **{"from": middle}))["items"]) == 3
    assert len((await listed(five, to=middle))["items"]) == 3


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("page=-1", "?page"),
        ("page=0", "?page"),
        ("page=x", "?page"),
        ("page=99999999999999999999", "?page"),
        ("pageSize=0", "?pageSize"),
        ("pageSize=101", "?pageSize"),
        ("cursor=nonsense", "?cursor"),
        ("cursor=0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0a01&page=2", "?page"),
        ("channel=pigeon", "?channel"),
        ("from=yesterday", "?from"),
        ("to=2025-01-01T00:00:00", "?to"),
        ("from=0001-01-01T00:00:00%2B14:00", "?from"),
        ("recipientId=%00", "?recipientId"),
    ],
)
async def test_a_bad_query_is_a_problem_that_names_it(client, query, pointer):
    answer = await client.get(f"/api/v1/notifications?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize("path", ["/api/v1/notifications/none", "/api/v1/notifications/%F0%9F%8D%B5"])
async def test_an_unknown_notification_is_a_404(client, path):
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["errorType"]) == (404, "notification-not-found")


# --- dead letters ---

DEAD = "/events/dead/notification-service/orders"
AGAIN = "notification-service/events/orders"
SUCCESS, RETRY, DROP = ({"status": status} for status in ("SUCCESS", "RETRY", "DROP"))


@pytest.fixture
def letters(client):
    async def read():
        return (await client.get("/api/v1/dead-letters")).json()["items"]

    return read


@pytest.fixture
def replay(client, sidecar):
    """With what the app says to it."""

    async def post(letter, said, status=200):
        sidecar.answers[AGAIN] = Answer(status=status, data=said)
        return await client.post(f"/api/v1/dead-letters/{letter['id']}/replay")

    return post


async def test_a_dead_letter_is_kept_once_and_delivered_again_to_its_app_alone(client, sidecar, event, letters, replay):
    poison = event(version=-1) | {"pubsubname": "pubsub"}
    for _ in range(2):
        assert (await client.post(DEAD, json=poison)).json() == SUCCESS
    (letter,) = await letters()
    known = {"app": "notification-service", "topic": "orders", "source": "order-service", "eventId": poison["id"]}
    assert known.items() <= letter.items()
    assert letter["replayedAt"] is None
    answer = await replay(letter, SUCCESS)
    assert answer.status_code == 200
    assert answer.json()["replayedAt"]
    assert (sidecar.invoked, sidecar.published) == ([(AGAIN, poison)], [])


async def test_the_letters_of_another_service_need_no_code_here(client, sidecar, event, letters):
    poison = event(version=-1) | {"subject": None}
    assert (await client.post("/events/dead/stock-service/deliveries", json=poison)).json() == SUCCESS
    (letter,) = await letters()
    assert (letter["app"], letter["topic"], letter["eventId"]) == ("stock-service", "deliveries", poison["id"])
    sidecar.answers["stock-service/events/deliveries"] = Answer(status=200, data=SUCCESS)
    assert (await client.post(f"/api/v1/dead-letters/{letter['id']}/replay")).status_code == 200
    assert sidecar.invoked == [("stock-service/events/deliveries", poison)]


@pytest.mark.parametrize("name", ["id", "source"])
async def test_an_event_whose_id_is_too_long_dies_and_lives_once_it_is_replayed(client, sidecar, event, letters, name):
    long = event() | {name: "é" * 300}
    assert (await client.post("/events/orders", json=long)).json()["status"] == "DROP"
    await client.post(DEAD, json=long)
    (letter,) = await letters()
    sidecar.answers[AGAIN] = Answer(status=200, data=SUCCESS)
    for _ in range(2):
        assert (await client.post(f"/api/v1/dead-letters/{letter['id']}/replay")).status_code == 200
    for _, again in sidecar.invoked:
        assert (await client.post("/events/orders", json=again)).json() == SUCCESS
    assert len((await listed(client))["items"]) == 1


async def test_one_that_dies_again_after_its_replay_waits_again(client, event, letters, replay):
    poison = event(version=-1)
    await client.post(DEAD, json=poison)
    await replay((await letters())[0], SUCCESS)
    await client.post(DEAD, json=poison)
    (letter,) = await letters()
    assert letter["replayedAt"] is None


@pytest.mark.parametrize(
    ("said", "status", "refusal"),
    [
        (DROP, 200, (409, "not-replayable")),
        ({"detail": "no such route"}, 404, (409, "not-replayable")),
        (RETRY, 200, (503, "app-unavailable")),
        (None, 200, (503, "app-unavailable")),  # whose sidecar died in the middle of the answer
        ({"errorCode": "ERR_DIRECT_INVOKE", "message": "failed to resolve"}, 500, (503, "app-unavailable")),
    ],
)
async def test_what_its_app_does_not_process_waits_on(client, event, letters, replay, said, status, refusal):  # noqa: PLR0917
    await client.post(DEAD, json=event(version=-1))
    (letter,) = await letters()
    answer = await replay(letter, said, status)
    assert (answer.status_code, answer.json()["errorType"]) == refusal
    (after,) = await letters()
    assert (after["status"], after["replayedAt"]) == ("waiting", None)


async def test_garbage_is_kept_and_can_not_be_replayed(client, sidecar, letters, replay):
    for _ in range(2):
        assert (await client.post(DEAD, content=b"\xff\xfe")).json() == SUCCESS
    (letter,) = await letters()
    answer = await replay(letter, SUCCESS)
    assert (answer.status_code, answer.json()["errorType"]) == (409, "not-replayable")
    assert sidecar.invoked == []


async def test_a_replay_without_a_sidecar_is_a_503_and_can_be_repeated(client, sidecar, event, letters, replay):
    await client.post(DEAD, json=event(version=-1))
    (letter,) = await letters()
    sidecar.alive = False
    assert (await replay(letter, SUCCESS)).status_code == 503
    assert await letters() == [letter]


async def test_an_unknown_dead_letter_is_a_404(client):
    answer = await client.post("/api/v1/dead-letters/none/replay")
    assert (answer.status_code, answer.json()["errorType"]) == (404, "dead-letter-not-found")


# --- as a whole ---


async def test_a_poison_event_is_dropped_over_http(client, event):
    assert (await client.post("/events/orders", json=event(version=-1))).json()["status"] == "DROP"


async def test_without_mail_or_sidecar_it_is_ready_and_degraded(client, mail_server, sidecar):
    assert (await client.get("/health")).json()["status"] == "Healthy"
    await mail_server.stop()
    sidecar.alive = False
    health = (await client.get("/health")).json()
    assert health["status"] == "Degraded"
    assert {name: check["status"] for name, check in health["checks"].items()} == {
        "database": "Healthy",
        "cache": "Degraded",
        "broker": "Healthy",  # as it was last asked
        "sidecar": "Degraded",
        "smtp": "Degraded",
    }
    assert (await client.get("/health/ready")).status_code == 200


async def test_the_api_is_described_in_full(client):
    document = (await client.get("/openapi.json")).json()
    paths = {path for path in document["paths"] if path.startswith("/api")}
    assert paths == {path for _, path in map(str.split, Book(RULES).rules) if path.startswith("/api")}
    assert set(document["components"]["schemas"]["NotificationView"]["properties"]) == ITEM
    assert "HTTPValidationError" not in document["components"]["schemas"]
    names = {parameter["name"] for parameter in document["paths"]["/api/v1/notifications"]["get"]["parameters"]}
    assert names == {"recipientId", "channel", "subjectId", "from", "to", "page", "pageSize", "cursor"}


async def test_no_log_line_holds_a_name_or_an_address(client, inbox, event, capsys):
    inbox.rcpt = ["550 no such user ada@example.com"]
    await deliver(client, event())
    await client.post("/events/orders", json=event(version=-1))
    await client.post(DEAD, json=event(version=-1))
    logged = ""

    def told():
        nonlocal logged
        logged += capsys.readouterr().out
        return "notification.not_sent" in logged

    await eventually(told, every=0.02)
    assert not re.search(r"ada|example\.com", logged, re.IGNORECASE)
