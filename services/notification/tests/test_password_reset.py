"""Password resets: nobody learns whether an account exists, and a link works once, for an hour, and only the last."""

import asyncio
import hashlib
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import pytest
import sqlalchemy as sa

from chassis.ids import now
from notification.password_reset import _issue, draft
from notification.recipients.contacts import Contact, Contacts
from notification.tables import password_resets
from stack.eventually import eventually

ASK, REDEEM, LIST = "/api/v1/password-resets", "/api/v1/password-resets/redeem", "/api/v1/notifications"
ADA = "ada@example.com"
ANSWER = {"message": "If an account with that email exists, a reset link has been sent."}


@pytest.fixture
async def ada(client):
    body = {"name": "Ada", "email": ADA, "version": 0}
    assert (await client.put("/api/v1/recipients/c-1", json=body)).status_code == 200
    return client


async def ask(client, email=ADA, **more):
    return await client.post(ASK, json={"email": email, **more}, headers={"Authorization": ""})


def redeem(client, token):
    return client.post(REDEEM, json={"token": token}, headers={"Authorization": ""})


def token_in(mail):
    found = re.search(r"#token=([\w-]+)", mail.get_body(("plain",)).get_content())
    assert found
    return found[1]


async def mailed(client, inbox):
    """Ask, wait for the mail, and give its token."""
    already = len(inbox.mails)
    assert (await ask(client)).status_code == 202
    await eventually(lambda: len(inbox.mails) > already, every=0.01)
    return token_in(inbox.mails[-1])


def sql(database_url, statement):
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"), timeout=10)) as connection, connection:
        return connection.execute(statement).fetchall()


def ended(client, number=1, headers=None):
    """The history, once nothing of it is under way."""

    async def look():
        items = (await client.get(LIST, headers=headers)).json()["items"]
        open_ = [item for item in items if item["status"] in {"queued", "sending"}]
        return items if len(items) == number and not open_ else None

    return eventually(look, every=0.01)


async def test_asking_answers_everybody_alike(ada, inbox):
    known, unknown = await ask(ada), await ask(ada, "nobody@example.com")
    assert (known.status_code, known.json()) == (unknown.status_code, unknown.json()) == (202, ANSWER)
    differing = {"x-correlation-id", "x-request-id", "traceparent", "date", "traceresponse"}
    assert known.headers.keys() == unknown.headers.keys()
    assert {k: v for k, v in known.headers.items() if k not in differing and "limit" not in k} == {
        k: v for k, v in unknown.headers.items() if k not in differing and "limit" not in k
    }
    items = await ended(ada, 2)
    assert [(item["status"], item["error"]) for item in items] == [("suppressed", "no account"), ("sent", None)]
    assert [mail["To"] for mail in inbox.mails] == [ADA]


async def test_the_mail_greets_whose_account_it_is_and_has_a_url_to_reset_it(ada, inbox):
    await mailed(ada, inbox)
    text = inbox.mails[0].get_body(("plain",)).get_content()
    assert text.startswith("Hello Ada,")
    assert "http://localhost:8001/reset-password#token=" in text


WORDS = "{{ resetUrl }} {{ resetUrl|upper }} {{ resetUrl|urlencode }} {{ resetUrl|truncate(50) }}"


async def test_no_record_holds_the_token_whatever_its_template_does_to_the_link(ada, inbox, database_url):
    source = {"subject": WORDS, "text": WORDS, "html": WORDS, "push": WORDS}
    path, sample = "/api/v1/templates/Account/password-reset", {"resetUrl": "https://brewline.example/r#token=t"}
    draft = {"locale": "en", "source": source, "sample": sample, "version": 0}
    assert (await ada.put(path, json=draft)).status_code == 200
    assert (await ada.post(f"{path}/publish", json={"locale": "en", "version": 1})).status_code == 200
    token = await mailed(ada, inbox)
    (item,) = await ended(ada, 1)
    assert "#token=… HTTP://LOCALHOST:8001/RESET-PASSWORD#TOKEN=…" in item["content"]
    assert item["subject"].startswith("http://localhost:8001/reset-password#token=… ")
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as connection:
        written = "\n".join(connection.iterdump()).lower()
    assert not any(token[at : at + 8].lower() in written for at in range(len(token) - 7))
    assert (await redeem(ada, token)).status_code == 204


async def test_however_the_address_is_written_the_mail_goes_to_its_account(ada, inbox):
    assert (await ask(ada, "ADA@Example.com")).status_code == 202
    await eventually(lambda: inbox.mails, every=0.01)


async def test_it_is_written_in_the_language_of_its_account_and_no_row_says_so(client, inbox, database_url):
    body = {"name": "Ada", "email": ADA, "locale": "pt-BR", "version": 0}
    assert (await client.put("/api/v1/recipients/c-1", json=body)).status_code == 200
    await mailed(client, inbox)
    assert inbox.mails[0]["Subject"] == "Pedido de redefinição da palavra-passe"
    assert (await ask(client, "nobody@example.com")).status_code == 202
    await ended(client, 2)
    assert sql(database_url, "SELECT DISTINCT locale FROM notifications") == [("en",)]


async def test_an_account_is_its_tenants(ada, inbox, issuer):
    assert (await ask(ada, tenantId="other")).status_code == 202
    (item,) = await ended(ada, headers=issuer.bearer("staff", tenant="other"))
    assert (item["status"], item["error"]) == ("suppressed", "no account")
    assert inbox.mails == []


@pytest.mark.parametrize("email", ["", "ada", "a b@example.com", "a@b\r\nBcc: c@d", "x" * 330 + "@example.com"])
async def test_what_is_no_address_is_refused(client, email):
    answer = await ask(client, email)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/email")


async def test_a_link_works_once(ada, inbox):
    token = await mailed(ada, inbox)
    assert (await redeem(ada, token)).status_code == 204
    again = await redeem(ada, token)
    assert (again.status_code, again.json()["errorType"]) == (410, "reset-gone")


async def test_a_made_up_token_is_as_gone_as_a_used_one(ada, inbox):
    token = await mailed(ada, inbox)
    await redeem(ada, token)
    used, made_up = await redeem(ada, token), await redeem(ada, "x" * 43)
    told = [{k: v for k, v in one.json().items() if k in {"title", "detail", "errorType"}} for one in (used, made_up)]
    assert told[0] == told[1]
    assert made_up.status_code == 410


async def test_a_link_is_too_old_after_an_hour(ada, inbox, database_url):
    token = await mailed(ada, inbox)
    ((hours,),) = sql(
        database_url, "SELECT round((julianday(expires_at) - julianday(created_at)) * 24, 3) FROM password_resets"
    )
    assert hours == 1
    sql(database_url, "UPDATE password_resets SET expires_at = created_at")
    assert (await redeem(ada, token)).status_code == 410


async def test_a_second_request_revokes_the_first(ada, inbox):
    first, second = await mailed(ada, inbox), await mailed(ada, inbox)
    assert first != second
    assert (await redeem(ada, first)).status_code == 410
    assert (await redeem(ada, second)).status_code == 204


async def test_a_retry_makes_a_link_of_its_own_and_revokes_the_one_that_may_have_arrived(ada, inbox, database_url):
    inbox.data = ["451 later"]
    await ask(ada)

    async def tried():
        return (await ada.get(LIST)).json()["items"][0]["attempts"]

    await eventually(tried, every=0.01)
    sql(database_url, "UPDATE notifications SET next_attempt_at = created_at WHERE status = 'queued'")
    await eventually(lambda: inbox.mails, every=0.01)

    token = token_in(inbox.mails[0])
    rows = sql(database_url, "SELECT token_hash, ended_at FROM password_resets ORDER BY created_at")
    assert [ended_at is None for _, ended_at in rows] == [False, True]
    assert rows[1][0] == hashlib.sha256(token.encode()).hexdigest()
    assert (await redeem(ada, token)).status_code == 204


async def test_of_two_asked_for_at_once_one_link_holds(ada, inbox):
    await asyncio.gather(ask(ada), ask(ada))
    await eventually(lambda: len(inbox.mails) == 2, every=0.01)
    answers = [await redeem(ada, token_in(mail)) for mail in inbox.mails]
    assert sorted(answer.status_code for answer in answers) == [204, 410]


async def test_two_processes_that_make_a_link_at_once_leave_one(on_postgres, waiting):
    """Neither sees what the other has not committed: one of them has to wait."""

    def issue(conn, token_hash):
        _issue(conn, draft(tenant="default", email=ADA, traceparent=""), token_hash)

    def issue_second():
        with on_postgres.begin() as conn:
            issue(conn, "second")

    ada = Contact(id="c-1", owner="u-1", email=ADA, as_of=now(), trusted=True)
    with on_postgres.begin() as conn:
        Contacts(conn, "default").feed(ada)
    with ThreadPoolExecutor(1) as other_process:
        with on_postgres.begin() as conn:
            issue(conn, "first")
            second = other_process.submit(issue_second)
            await eventually(lambda: second.done() or waiting(), within=30)
        second.result(timeout=30)
    with on_postgres.connect() as conn:
        rows = conn.execute(sa.select(password_resets).order_by(password_resets.c.created_at)).all()
    assert [row.token_hash for row in rows if row.ended_at is None] == ["second"]


# --- what its recipient wants ---


def wish(client, **told):
    return client.put("/api/v1/recipients/c-1/preferences", json={"version": 0, **told})


async def test_whoever_asks_gets_it_though_they_want_no_mail_of_its_kind_or_at_this_time(ada, inbox):
    """What is asked for by its recipient is critical: no unsubscription, quiet hour or cap is meant for it."""
    start, end = (f"{now() + timedelta(hours=hours):%H:%M}" for hours in (-1, 1))
    wishes = {
        "channels": {"email": {"categories": {"Account": False}}},
        "quietHours": {"start": start, "end": end},
        "caps": [{"limit": 0, "per": "day"}],
        "digests": {"Account": "08:00"},
    }
    assert (await wish(ada, **wishes)).status_code == 200
    assert await mailed(ada, inbox)


async def test_whoever_wants_no_mail_at_all_gets_none_and_nobody_learns_of_it(ada, inbox):
    token = await mailed(ada, inbox)
    assert (await wish(ada, channels={"email": {"enabled": False}})).status_code == 200
    refused, unknown = await ask(ada), await ask(ada, "nobody@example.com")
    assert (refused.status_code, refused.json()) == (unknown.status_code, unknown.json()) == (202, ANSWER)
    items = await ended(ada, 3)
    assert [(item["status"], item["error"]) for item in items[:2]] == [
        ("suppressed", "no account"),
        ("suppressed", "channel-disabled"),
    ]
    assert len(inbox.mails) == 1
    assert (await redeem(ada, token)).status_code == 204  # no other link took its place


async def test_a_stranger_who_orders_under_somebodys_address_does_not_get_their_link(ada, inbox, database_url, event):
    """Nor keeps it from them: an order's word for whose address it is counts for less."""
    order = event(ownerId="mallory", customer={"id": "a-0", "name": "M", "email": ADA}, status="new")
    posted = await ada.post("/events/orders", json=order | {"type": "order.status-changed.v1"})
    assert posted.status_code == 200
    await mailed(ada, inbox)
    assert sql(database_url, "SELECT recipient_id FROM password_resets") == [("c-1",)]


async def test_a_sixth_within_the_hour_is_not_sent(ada, inbox, database_url):
    tokens = [await mailed(ada, inbox) for _ in range(5)]
    assert (await ask(ada)).status_code == 202
    items = await ended(ada, 6)
    assert (items[0]["status"], items[0]["error"]) == ("suppressed", "too many resets")
    assert len(inbox.mails) == 5
    assert (await redeem(ada, tokens[-1])).status_code == 204

    sql(database_url, "UPDATE password_resets SET created_at = datetime(created_at, '-61 minutes') || '.000000'")
    assert await mailed(ada, inbox)


async def test_the_token_is_in_the_mail_and_nowhere_else(ada, inbox, database_url, sidecar):
    token = await mailed(ada, inbox)
    await ended(ada)
    ((kept,),) = sql(database_url, "SELECT token_hash FROM password_resets")
    assert kept == hashlib.sha256(token.encode()).hexdigest()
    assert len(token) == 43  # 32 bytes
    dump = database_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(dump, timeout=10)) as connection:
        assert token not in "\n".join(connection.iterdump())
    assert token not in repr(sidecar.published)
    assert ADA not in repr(sidecar.published)


async def test_no_log_line_holds_token_or_address(ada, inbox, capsys):
    token = await mailed(ada, inbox)
    await redeem(ada, token)
    await redeem(ada, token)
    await ask(ada, "nobody@example.com")
    await ask(ada, "not an address")
    await ended(ada, 2)
    logged = capsys.readouterr().out
    assert "notification.sent" in logged
    assert token not in logged
    assert not re.search(r"ada|nobody|example\.com|not an address", logged, re.IGNORECASE)


@pytest.mark.parametrize("sub", ["c-1", "u-1"])
async def test_no_user_sees_a_reset_in_a_history(ada, inbox, issuer, sub):
    token = await mailed(ada, inbox)
    (item,) = await ended(ada)
    user = issuer.bearer("user", sub=sub)
    assert (await ada.get(LIST, headers=user)).json()["items"] == []
    assert (await ada.get(f"{LIST}/{item['id']}", headers=user)).status_code == 403
    shown = (await ada.get(f"{LIST}/{item['id']}")).text
    assert ADA not in shown
    assert token not in shown
