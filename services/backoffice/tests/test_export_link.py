"""Whoever has the link gets the file: nobody else, not for ever, and no log gives it away."""

from datetime import timedelta

import orjson
import pytest

from backoffice.domain import LinkForged
from backoffice.exports.link import Links
from chassis.ids import now
from chassis.redaction import redact

KEYS = ["a" * 43, "b" * 43]


async def answer_to(client, path):
    answer = await client.get(path, headers={"Authorization": ""})
    return answer.status_code, "" if answer.is_success else answer.json()["errorType"]


async def test_a_link_needs_no_sign_in_and_gives_an_attachment_that_no_browser_guesses_at(client, exports, shop):
    shop.fill(3)
    job = await exports.run(await exports.ask(format="xlsx"))
    path = job["resultUrl"].removeprefix("http://localhost:8005")
    answer = await client.get(path, headers={"Authorization": ""})

    assert answer.headers["content-type"] == "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    name = f"export_a-1_{job['createdAt'][:10].replace('-', '')}_{job['jobId']}.xlsx"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(answer.content) == int(answer.headers["content-length"])


async def test_a_changed_link_is_no_link_and_an_old_one_has_expired(client, exports, monkeypatch):
    job_id = await exports.ask()
    job = await exports.run(job_id)
    other = await exports.ask()
    path = job["resultUrl"].removeprefix("http://localhost:8005")
    expires = path.partition("expires=")[2].partition("&")[0]
    with monkeypatch.context() as patched:
        patched.setattr("backoffice.exports.link.now", lambda: now() - timedelta(hours=24, seconds=1))
        old = exports.made.links.make(job_id)[0].removeprefix("http://localhost:8005")

    assert await answer_to(client, path) == (200, "")
    assert await answer_to(client, old) == (410, "link-expired")
    forged = (403, "link-invalid")
    assert await answer_to(client, path.replace(expires, str(int(expires) + 1))) == forged
    assert await answer_to(client, path.replace(job_id, other)) == forged
    assert await answer_to(client, path[:-1]) == forged
    assert await answer_to(client, f"{path[:-1]}\u00e4") == forged
    assert await answer_to(client, path.partition("&")[0]) == (422, "invalid-request")
    signed = exports.made.links.make("01890000-0000-7000-8000-000000000000")[0]
    assert await answer_to(client, signed.removeprefix("http://localhost:8005")) == (404, "job-not-found")


def test_the_first_key_signs_and_all_are_believed():
    old, new, gone = Links("https://x"), Links("https://x"), Links("https://x")
    old.unlock(KEYS[0])
    new.unlock(f"{KEYS[1]},{KEYS[0]}")
    gone.unlock(KEYS[1])
    link, _ = old.make("j-1")
    expires, signature = int(link.partition("expires=")[2].partition("&")[0]), link.partition("signature=")[2]

    new.check("j-1", expires=expires, signature=signature)
    with pytest.raises(LinkForged):
        gone.check("j-1", expires=expires, signature=signature)
    assert new.make("j-1")[0].partition("ture=")[2] == gone.make("j-1")[0].partition("ture=")[2]
    with pytest.raises(ValueError, match="32 bytes"):
        old.unlock("short")


async def test_no_record_has_the_signature(exports, shop, rows):
    """What a record or a span shows of the link: the event as it is published, and a request that follows it."""
    shop.fill(1)
    job = await exports.run(await exports.ask())
    (event,) = (orjson.loads(row.data) for row in rows("SELECT data FROM outbox"))
    for link in (job["resultUrl"], event["resultUrl"]):
        told = redact({"Payload": event, "url": link, "url.query": link.partition("?")[2]})
        assert link.partition("signature=")[2] not in str(told)
