"""The send command: staff's way to a recipient, written down before it is answered, once for whatever asks again."""

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import datetime

import pytest

from stack.eventually import eventually

SEND = "/api/v1/notifications"
ADA = {"name": "Ada", "email": "ada@example.com", "locale": "en", "version": 0}
COMMAND = {
    "eventId": "e-1",
    "recipientId": "c-1",
    "channel": "email",
    "templateCategory": "System",
    "templateName": "test",
    "personalizationContext": {"name": "Ada"},
}
MAIL_ONLY = {"templateCategory": "Account", "templateName": "password-reset"}


@pytest.fixture
async def ada(client):
    answer = await client.put("/api/v1/recipients/c-1", json=ADA)
    assert answer.status_code == 200, answer.text
    return client


async def one_of(client, notification_id):
    return (await client.get(f"{SEND}/{notification_id}")).json()


async def sent(client, notification_id):
    async def look():
        one = await one_of(client, notification_id)
        return one if one["status"] == "sent" else None

    return await eventually(look, every=0.01)


async def count(client):
    return len((await client.get(SEND)).json()["items"])


async def test_a_command_is_accepted_and_sent(ada, inbox):
    answer = await ada.post(SEND, json=COMMAND)

    assert answer.status_code == 202
    notification_id = answer.json()["notificationId"]
    assert answer.json() == {"notificationId": notification_id, "success": True}
    assert answer.headers["location"] == f"{SEND}/{notification_id}"
    assert "idempotency-replayed" not in answer.headers
    one = await sent(ada, notification_id)
    assert (one["eventId"], one["recipientId"], one["category"]) == ("e-1", "c-1", "System")
    assert [mail["Message-ID"] for mail in inbox.mails] == [f"<{notification_id}@brewline>"]
    assert [mail["To"] for mail in inbox.mails] == ["ada@example.com"]


async def test_it_was_made_when_its_id_was_however_long_it_waits_for_the_writer(ada, database_url):
    """History by time looks for ids of that time."""
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None)) as busy:
        busy.execute("BEGIN IMMEDIATE")
        sending = asyncio.create_task(ada.post(SEND, json=COMMAND))
        await asyncio.sleep(1)  # so far apart they would be
        busy.execute("ROLLBACK")
    sent = await one_of(ada, (await sending).json()["notificationId"])
    of_the_id = int(sent["id"].replace("-", "")[:12], 16) / 1000
    assert abs(datetime.fromisoformat(sent["createdAt"]).timestamp() - of_the_id) < 0.5


async def test_one_notification_tells_of_its_attempts_oldest_first(ada, inbox, database_url):
    inbox.data = ["451 later"]
    notification_id = (await ada.post(SEND, json=COMMAND)).json()["notificationId"]
    await eventually(lambda: _attempts(ada, notification_id), every=0.01)
    make_due(database_url)

    tries = (await sent(ada, notification_id))["tries"]

    assert [one["outcome"] for one in tries] == ["postponed", "delivered"]
    assert tries[0]["error"]
    assert tries[1]["error"] is None
    assert tries[0]["endedAt"] < tries[1]["endedAt"]


async def test_what_was_accepted_is_sent_by_the_next_process(running, mail_server, inbox, database_url):
    await mail_server.stop()
    async with running() as client:
        await client.put("/api/v1/recipients/c-1", json=ADA)
        notification_id = (await client.post(SEND, json=COMMAND)).json()["notificationId"]
        await eventually(lambda: _attempts(client, notification_id), every=0.01)
    await mail_server.start()
    make_due(database_url)
    async with running() as client:
        await sent(client, notification_id)
    assert [mail["Message-ID"] for mail in inbox.mails] == [f"<{notification_id}@brewline>"]


async def test_what_a_killed_process_had_in_hand_is_sent_as_soon_as_the_next_one_starts(
    running, mail_server, inbox, database_url
):
    """Where there is one process only, nobody else can hold its lease."""
    await mail_server.stop()
    async with running() as client:
        await client.put("/api/v1/recipients/c-1", json=ADA)
        notification_id = (await client.post(SEND, json=COMMAND)).json()["notificationId"]
        await eventually(lambda: _attempts(client, notification_id), every=0.01)
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"), timeout=10)) as connection, connection:
        leased = "UPDATE notifications SET status = 'sending', next_attempt_at = NULL, lease_until = '2999-01-01'"
        connection.execute(leased)
    await mail_server.start()
    async with running() as client:
        await sent(client, notification_id)
    assert len(inbox.mails) == 1


async def _attempts(client, notification_id):
    return (await one_of(client, notification_id))["attempts"]


def make_due(database_url):
    """What some seconds do."""
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"), timeout=10)) as connection, connection:
        connection.execute("UPDATE notifications SET next_attempt_at = created_at WHERE status = 'queued'")


async def test_the_same_event_is_the_same_notification(ada, inbox):
    first = await ada.post(SEND, json=COMMAND)
    again = await ada.post(SEND, json=COMMAND | {"personalizationContext": {"name": "Bob"}})

    assert again.status_code == 202
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    await sent(ada, first.json()["notificationId"])
    assert (await count(ada), len(inbox.mails)) == (1, 1)


async def test_another_event_is_another_notification(ada):
    first = await ada.post(SEND, json=COMMAND)
    other = await ada.post(SEND, json=COMMAND | {"eventId": "e-2"})
    assert first.json() != other.json()
    assert await count(ada) == 2


async def test_a_key_stands_for_what_it_made(ada):
    key = {"Idempotency-Key": "k-1"}
    first = await ada.post(SEND, json=COMMAND, headers=key)
    again = await ada.post(SEND, json=COMMAND, headers=key)

    assert "idempotency-replayed" not in first.headers
    assert (again.status_code, again.json(), again.headers["idempotency-replayed"]) == (202, first.json(), "true")
    assert await count(ada) == 1


async def test_a_key_that_came_after_its_event_stands_for_what_was_there(ada):
    first = await ada.post(SEND, json=COMMAND)
    for _ in range(2):
        answer = await ada.post(SEND, json=COMMAND, headers={"Idempotency-Key": "late"})
        assert answer.json() == first.json()
    assert await count(ada) == 1


async def test_a_key_for_another_body_is_refused_and_makes_nothing(ada):
    key = {"Idempotency-Key": "k-1"}
    await ada.post(SEND, json=COMMAND, headers=key)
    answer = await ada.post(SEND, json=COMMAND | {"eventId": "e-2"}, headers=key)

    assert (answer.status_code, answer.json()["errorType"]) == (422, "idempotency-mismatch")
    assert await count(ada) == 1


async def test_a_key_is_its_callers_own(ada, issuer):
    key = {"Idempotency-Key": "k-1"}
    await ada.post(SEND, json=COMMAND, headers=key)
    other = key | issuer.bearer("staff", sub="s-2")
    answer = await ada.post(SEND, json=COMMAND | {"eventId": "e-2"}, headers=other)
    assert answer.status_code == 202
    assert await count(ada) == 2


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"recipientId": "nobody"}, "/recipientId"),
        ({"channel": "sms"}, "/recipientId"),  # there is no number
        ({"templateName": "missing"}, "/templateName"),
        ({"templateCategory": "Missing"}, "/templateName"),
        ({"channel": "pigeon"}, "/channel"),
        ({"chain": ["email"]}, "/chain"),
        ({"channel": "push"} | MAIL_ONLY, "/channel"),
        ({"chain": ["push"]} | MAIL_ONLY, "/chain"),
        ({"chain": ["sms", "sms"]}, "/chain"),
        ({"eventId": ""}, "/eventId"),
        ({"recipientId": "c\x00"}, "/recipientId"),
    ],
)
async def test_what_could_never_be_sent_is_refused_by_name_and_not_kept(ada, changed, pointer):
    answer = await ada.post(SEND, json=COMMAND | changed)
    assert (answer.status_code, answer.json()["errorType"]) == (422, "invalid-request")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await count(ada) == 0


async def test_the_chain_begins_with_the_first_channel_that_reaches_them(ada):
    answer = await ada.post(SEND, json=COMMAND | {"channel": "sms", "chain": ["email"]})
    assert (await sent(ada, answer.json()["notificationId"]))["channel"] == "email"


async def test_sending_needs_staff(ada, issuer, inbox):
    refused = await ada.post(SEND, json=COMMAND, headers=issuer.bearer("user", sub="c-1"))
    assert (refused.status_code, refused.json()["errorType"]) == (403, "role-missing")
    assert (await count(ada), inbox.mails) == (0, [])
    assert (await ada.post(SEND, json=COMMAND, headers=issuer.bearer("staff", sub="s-1"))).status_code == 202


async def test_another_tenants_recipient_is_no_recipient(ada, issuer):
    answer = await ada.post(SEND, json=COMMAND, headers=issuer.bearer("staff", tenant="other"))
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/recipientId"]


async def test_a_key_gives_its_answer_whatever_has_become_of_the_recipient(ada):
    key = {"Idempotency-Key": "k-1"}
    first = await ada.post(SEND, json=COMMAND, headers=key)
    emptied = await ada.put("/api/v1/recipients/c-1", json={"name": "Ada", "email": "", "version": 1})
    again = await ada.post(SEND, json=COMMAND, headers=key)

    assert emptied.status_code == 200
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_misspelt_field_is_pointed_at(ada):
    refused = await ada.post(SEND, json=COMMAND | {"context": {}})
    assert refused.status_code == 422
    assert [one["pointer"] for one in refused.json()["errors"]] == ["/context"]


@pytest.mark.parametrize(
    ("number", "status", "pointers"), [("NaN", 400, None), ("1e400", 422, ["/personalizationContext"])]
)
async def test_a_number_that_is_none_is_told_to_nobody(ada, number, status, pointers):
    body = json.dumps(COMMAND | {"personalizationContext": {"x": [{"y": "?"}]}}).replace('"?"', number)
    refused = await ada.post(SEND, content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == status
    assert (pointers and [one["pointer"] for one in refused.json()["errors"]]) == pointers
