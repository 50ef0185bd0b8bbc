"""Messages as those who ask for them see them: events routed by data, providers that fail, receipts, bulks, the
history. What recipients see and wish is in test_recipients.py."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from brewery import NOTIFICATION, Brewery, Notices, bearer, client_of, new_phone, replicas
from standardwebhooks import Webhook

from chassis.ids import new_id, now
from notification.tables import notifications
from stack.eventually import eventually
from stack.sidecars import Stack

BUSY = "SMS service temporarily unavailable"
# The breaker's word where a busy machine let it wait until it may come from between two attempts: Answer.never_sent.
IN_DOUBT = "africas-talking the sidecar got no answer"
BEYOND_DOUBT = timedelta(seconds=0.2)
AT_ONCE = timedelta(seconds=1)  # the declared retries alone take longer


@pytest.fixture
async def elsewhere(stack: Stack) -> AsyncIterator[Notices]:
    """The last replica: where there is only one, the same."""
    async with client_of(stack, replicas(stack, NOTIFICATION)[-1], bearer(stack, "admin")) as client:
        yield Notices(client)


# --- events of others ---


def application(phone: str, branch: str) -> dict[str, Any]:
    run = new_id()
    return {
        "eventId": run,
        "eventTimestamp": "2026-11-21T12:00:00Z",
        "applicationId": f"A-{run}",
        "customerId": f"c-{run}",
        "requestedAmount": "1500.00",
        "productType": "Payroll",
        "branchId": branch,
        "customerName": "Grace",
        "customerPhone": phone,
        "customerEmail": f"{run}@customers.example",
    }


async def test_a_loan_application_is_told_to_its_customer_and_then_to_the_staff_of_the_branch(
    brew: Brewery, notices: Notices
) -> None:
    branch, address = f"B-{new_id()[-8:]}", f"{new_id()}@staff.example"
    await notices.recipient(email=address, groups=[f"branch:{branch}"])
    data = application(new_phone(), branch)
    await brew.publish_to("loan-origination", "LoanApplicationCreated", data)

    async def completed() -> dict[str, Any]:
        answer = await notices.client.get(f"/api/v1/sagas/{data['eventId']}")
        assert (answer.status_code, answer.json().get("currentStep")) == (200, "Completed")
        return answer.json()

    saga = await eventually(completed, within=60, every=0.2)
    steps = [(one["step"], one["sent"]) for one in saga["steps"]]
    assert steps == [("CustomerNotification", True), ("StaffNotification", True)]
    told = await notices.history(subjectId=data["applicationId"])
    assert [one["channel"] for one in told] == ["email", "sms"]
    for one in told:
        await notices.becomes(one["id"], "delivered")
    [text] = await brew.texts(data["customerPhone"])
    assert text["provider"] == "africas-talking"
    assert data["applicationId"] in text["text"]
    assert told[1]["content"] == text["text"]
    assert len(await brew.inbox(address)) == 1


async def test_a_new_event_is_told_by_a_route_and_a_template_and_no_code(
    brew: Brewery, notices: Notices, elsewhere: Notices
) -> None:
    category, kind, run = f"Loyalty{new_id()[-8:]}", f"PointsEarned{new_id()[-8:]}", new_id()
    await publish(notices, category, "{{ points }} points for {{ customerName }}", {"points": 1, "customerName": "G"})
    contact = {"id": "customerId", "name": "customerName", "email": "customerEmail", "trusted": True}
    message = {"channel": "email", "category": category, "template": "points"}
    route = {"topic": "client-management", "type": kind, "contact": contact, "messages": [message]}
    answer = await notices.client.put("/api/v1/routes", json={"route": route, "version": 0})
    assert (answer.status_code, answer.json()["version"]) == (200, 1)

    address = f"{run}@people.example"
    customer = f"c-{run}"
    data = {"customerId": customer, "customerName": "Grace", "customerEmail": address, "points": 12}
    await brew.publish_to("client-management", kind, data)
    [mail] = await brew.arrived(address)
    assert mail["subject"] == "12 points for Grace"

    # The other replica keeps the words of the first version, until the second is published.
    async def subject() -> str:
        sent = await elsewhere.send(
            customer, templateCategory=category, templateName="points", personalizationContext=data
        )
        return (await elsewhere.becomes(sent, "delivered"))["subject"]

    assert await subject() == "12 points for Grace"
    await publish(notices, category, "Now {{ points }}", {"points": 1}, version=1)

    async def in_new_words() -> bool:
        return await subject() == "Now 12"

    assert await eventually(in_new_words)


async def publish(notices: Notices, category: str, words: str, sample: dict[str, Any], *, version: int = 0) -> None:
    """The next version of the template "points", in these words."""
    body = {"locale": "en", "source": {"subject": words, "text": words}, "sample": sample, "version": version}
    answer = await notices.client.put(f"/api/v1/templates/{category}/points", json=body)
    assert (answer.status_code, answer.json()["version"]) == (200, version + 1), answer.text
    published = {"locale": "en", "version": version + 1}
    answer = await notices.client.post(f"/api/v1/templates/{category}/points/publish", json=published)
    assert answer.status_code == 200, answer.text


# --- providers that are down ---

SMS = {"sms": "version1/messaging", "sms-legacy": "legacy/sms/send"}


async def ask(brew: Brewery, replica: str, endpoint: str) -> httpx.Response:
    """A text to nobody of ours, straight through one replica's sidecar."""
    secrets = brew.stack.apps[NOTIFICATION].secrets
    headers = {"dapr-api-token": brew.stack.dapr_token}
    url = f"{brew.stack.sidecar_url(replica)}/v1.0/invoke/{endpoint}/method/{SMS[endpoint]}"
    async with httpx.AsyncClient(timeout=30, trust_env=False, headers=headers) as client:
        if endpoint == "sms":
            form = {"username": "sandbox", "to": "+254799999999", "message": "through"}
            return await client.post(url, data=form, headers={"apiKey": secrets["africas-talking-key"]})
        text = {"PhoneNumber": "+254799999999", "MessageText": "through", "Sender": "Brewline"}
        return await client.post(url, json=text, headers={"X-Api-Key": secrets["legacy-sms-key"]})


async def take_down(brew: Brewery, endpoint: str) -> None:
    """A provider that refuses, and every replica's breaker open for the next 30 s."""
    await brew.fault(endpoint, mode="error", status=503)
    for replica in replicas(brew.stack, NOTIFICATION):
        await asyncio.gather(*(ask(brew, replica, endpoint) for _ in range(6)))
        assert "circuit breaker is open" in (await ask(brew, replica, endpoint)).text


async def mended(brew: Brewery) -> bool:
    asked = [ask(brew, replica, endpoint) for replica in replicas(brew.stack, NOTIFICATION) for endpoint in SMS]
    return all(answer.is_success for answer in await asyncio.gather(*asked))


def seconds_until_tried(seen: dict[str, Any]) -> timedelta:
    return datetime.fromisoformat(seen["tries"][0]["endedAt"]) - datetime.fromisoformat(seen["createdAt"])


@pytest.mark.timeout(180)
async def test_while_a_provider_is_down_the_next_one_takes_over_then_the_next_channel_else_the_text_waits(
    brew: Brewery, notices: Notices
) -> None:
    phone = new_phone()
    customer = await notices.recipient(phone=phone)
    await take_down(brew, "sms")
    by_legacy = await notices.becomes(await notices.send(customer, "sms"), "delivered")  # by its signed webhook
    assert seconds_until_tried(by_legacy) < AT_ONCE
    assert [text["provider"] for text in await brew.texts(phone)] == [by_legacy["provider"]] == ["legacy"]

    await take_down(brew, "sms-legacy")
    waits = await notices.send(customer, "sms")
    by_mail = await notices.becomes(await notices.send(customer, "sms", chain=["email"]), "delivered")
    tries = [(one["channel"], one["outcome"], one["error"]) for one in by_mail["tries"]]
    assert tries == [("sms", "down", BUSY), ("email", "delivered", None)]
    assert seconds_until_tried(by_mail) < AT_ONCE
    assert len(await brew.inbox(f"{customer}@people.example")) == 1

    waiting = await notices.becomes(waits, "queued")
    assert waiting["error"] == waiting["tries"][0]["error"]
    assert waiting["error"] in ({BUSY} if seconds_until_tried(waiting) < BEYOND_DOUBT else {BUSY, IN_DOUBT})
    assert seconds_until_tried(waiting) < AT_ONCE
    await brew.fair()
    await notices.becomes(waits, "delivered", within=90)
    assert len(await brew.texts(phone)) == 2  # legacy's, and this one, once
    assert await eventually(lambda: mended(brew), within=60, every=0.5)


# --- receipts ---


async def test_delivery_reports_and_bounces_say_what_became_of_a_message(brew: Brewery, notices: Notices) -> None:
    fine, gone, late = new_phone(), new_phone("9901"), new_phone("9902")
    bouncing = await notices.recipient(email=f"bounce-{new_id()}@people.example")
    text = await notices.becomes(await notices.send(await notices.recipient(phone=fine), "sms"), "delivered")
    assert (text["segments"], text["cost"]) == (1, "KES 0.8000")
    lost = await notices.becomes(await notices.send(await notices.recipient(phone=gone), "sms"), "failed")
    assert lost["error"] == "Failed: UserDoesNotExist"
    bounced = await notices.becomes(await notices.send(bouncing), "bounced")
    assert (bounced["error"], bounced["deliveredAt"]) == ("bounced: 5.1.1", None)

    # Its last word is told first; what comes after it moves nothing back.
    early = await notices.send(await notices.recipient(phone=late), "sms")
    await notices.becomes(early, "delivered")
    [told] = await brew.texts(late)

    async def both_taken() -> bool:
        deliveries = (await brew.sandbox.get("/sandbox/receipts")).json()["deliveries"]
        mine = [one["statusCodes"][-1:] for one in deliveries if one["key"] == told["messageId"]]
        return mine == [[200], [200]]

    assert await eventually(both_taken)
    assert (await notices.seen(early))["status"] == "delivered"


async def test_a_forged_receipt_is_refused_and_a_signed_one_has_the_last_word(brew: Brewery, notices: Notices) -> None:
    # Nothing final is said of it: the sandbox's own word is of a bounce that may pass.
    soft = await notices.send(await notices.recipient(email=f"soft-{new_id()}@people.example"))
    await notices.becomes(soft, "sent")
    secret = json.loads(brew.stack.apps[NOTIFICATION].secrets["receipt-secrets"])["smtp"]
    delivered, bounced = report(soft, "email.delivered"), report(soft, "email.bounced")
    old = now() - timedelta(minutes=6)
    forged = [
        {},
        signed(bounced, "whsec_Zm9yZ2VkIGJ5IHNvbWVib2R5IGVsc2U="),
        signed(delivered, secret),  # of another body
        signed(bounced, secret, at=old),
    ]
    async with client_of(brew.stack, NOTIFICATION) as provider:
        for headers in forged:
            answer = await provider.post("/api/v1/receipts/smtp", content=bounced, headers=headers)
            assert (answer.status_code, answer.json()["errorType"]) == (401, "receipt-not-signed")
        unknown = {"id": "ATXid_1", "status": "Failed"}
        for guessed in ({}, {"secret": "guessed"}):
            answer = await provider.post("/api/v1/receipts/africas-talking", params=guessed, data=unknown)
            assert answer.status_code == 401
        assert (await notices.seen(soft))["status"] == "sent"

        for body in (delivered, delivered, bounced):
            answer = await provider.post("/api/v1/receipts/smtp", content=body, headers=signed(body, secret))
            assert answer.status_code == 200
    seen = await notices.seen(soft)
    assert (seen["status"], seen["error"]) == ("delivered", None)


async def test_an_order_shows_what_became_of_the_mail_about_it(brew: Brewery, notices: Notices) -> None:
    order_id = (await brew.place(email=f"soft-{new_id()}@people.example")).json()["id"]

    async def notified(status: str) -> bool:
        shown = (await brew.order(order_id))["notified"]
        assert (shown and shown["status"]) == status
        return (await brew.timeline(order_id))["notify"]["status"] == status

    assert await eventually(lambda: notified("sent"), within=30)
    [mail] = await notices.history(subjectId=order_id)
    secret = json.loads(brew.stack.apps[NOTIFICATION].secrets["receipt-secrets"])["smtp"]
    body = report(mail["id"], "email.delivered")
    async with client_of(brew.stack, NOTIFICATION) as provider:
        await provider.post("/api/v1/receipts/smtp", content=body, headers=signed(body, secret))
    assert await eventually(lambda: notified("delivered"), within=30)


async def test_a_receipt_that_never_comes_is_asked_for(brew: Brewery, notices: Notices) -> None:
    app, job = replicas(brew.stack, NOTIFICATION)[-1], "NotificationLookUps"
    by_dapr = {"dapr-api-token": brew.stack.dapr_token}
    async with httpx.AsyncClient(base_url=brew.stack.sidecar_url(app), trust_env=False, headers=by_dapr) as sidecar:
        assert (await sidecar.get(f"/v1.0/jobs/{job}")).json()["schedule"] == "@every 60s"

    # Africa's Talking refuses all of them; of its own the legacy provider tells nothing: their numbers end so.
    await brew.fault("sms", mode="error", status=400)
    phone = new_phone("9908")
    customer = await notices.recipient(phone=phone)
    lost = [await notices.send(customer, "sms") for _ in range(2)]
    for one in lost:
        assert (await notices.becomes(one, "sent"))["provider"] == "legacy"
    names = [text["messageId"] for text in await brew.texts(phone)]
    assert await eventually(lambda: arrived_by_legacy(brew, names))
    await age(brew, lost[0], timedelta(minutes=6))

    async def asked_for() -> bool:
        async with client_of(brew.stack, app, {"dapr-api-token": brew.stack.app_token}) as scheduler:
            assert (await scheduler.post(f"/job/{job}", json=job)).status_code == 200
        return (await notices.seen(lost[0]))["status"] == "delivered"

    assert await eventually(asked_for, every=0.2)
    assert (await notices.seen(lost[1]))["status"] == "sent"  # its receipt may come yet
    told = {one["key"] for one in (await brew.sandbox.get("/sandbox/receipts")).json()["deliveries"]}
    assert not told & {*names}


async def arrived_by_legacy(brew: Brewery, names: list[str]) -> bool:
    key = {"X-Api-Key": brew.stack.apps[NOTIFICATION].secrets["legacy-sms-key"]}
    asked = [brew.sandbox.get("/legacy/sms/status", params={"transactionId": name}, headers=key) for name in names]
    return [answer.json()["status"] for answer in await asyncio.gather(*asked)] == ["Delivered"] * len(names)


async def age(brew: Brewery, notification_id: str, time: timedelta) -> None:
    """A message was sent, and its receipt is missed, since so much longer."""
    url = sa.make_url(brew.stack.apps[NOTIFICATION].env["NOTIFICATION_DATABASE_URL"])
    driver = "sqlite+pysqlite" if url.get_backend_name() == "sqlite" else "postgresql+psycopg"
    engine = sa.create_engine(url.set(drivername=driver))
    then = now() - time
    aged = sa.update(notifications).where(notifications.c.id == notification_id).values(sent_at=then, ask_at=then)

    def write() -> None:
        with engine.begin() as conn:
            assert conn.execute(aged).rowcount == 1

    await asyncio.to_thread(write)
    engine.dispose()


def report(notification_id: str, kind: str) -> str:
    told = {"messageId": f"<{notification_id}@brewline>", "recipient": "somebody"}
    return json.dumps({"type": kind, "data": told | {"kind": "permanent", "code": "5.1.1"}})


def signed(body: str, secret: str, *, at: datetime | None = None) -> dict[str, str]:
    at, name = at or now(), f"msg_{new_id()}"
    stamp = str(int(at.timestamp()))
    return {"webhook-id": name, "webhook-timestamp": stamp, "webhook-signature": Webhook(secret).sign(name, at, body)}


# --- many at once, and what was sent ---


async def test_a_bulk_reaches_everybody_once_and_says_who_was_not_to_be_reached(
    brew: Brewery, notices: Notices
) -> None:
    domain = f"{new_id()}.example"
    people = [await notices.recipient(email=f"{number}@{domain}") for number in range(48)]
    people += [await notices.recipient(email=""), "nobody-known"]
    body = {
        "channel": "email",
        "templateCategory": "System",
        "templateName": "test",
        "context": {"message": "for all"},
        "recipients": [{"recipientId": one, "context": {"message": f"for {one}"}} for one in people],
    }
    key = {"Idempotency-Key": new_id()}
    path = "/api/v1/notifications/bulk"
    first = await notices.client.post(path, json=body, headers=key)
    assert (first.status_code, first.json()["total"]) == (202, 50)
    bulk = first.headers["location"]

    async def through() -> str | None:
        seen = (await notices.client.get(bulk)).json()
        assert {name: count for name, count in seen["counts"].items() if count} == {"delivered": 48, "failed": 2}
        assert (seen["taken"], seen["etaSeconds"]) == (50, None)
        return seen["completedAt"]

    assert await eventually(through, within=30, every=0.2)
    again = await notices.client.post(path, json=body, headers=key)
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    results = await notices.pages(f"{bulk}/recipients", limit=20)
    assert [(one["number"], one["recipientId"]) for one in results] == list(enumerate(people))
    assert [one["error"] for one in results[48:]] == ["no address", "unknown recipient"]
    mails = [one for one in await brew.newest_mails() if one["to"].endswith(domain)]
    assert sorted(one["to"] for one in mails) == sorted(f"{number}@{domain}" for number in range(48))
    assert all(f"for {people[int(one['to'].partition('@')[0])]}" in one["text"] for one in mails)


async def test_the_history_has_what_was_sent_by_recipient_channel_and_time(stack: Stack, notices: Notices) -> None:
    customer = await notices.recipient(phone=new_phone())
    sent = [await notices.send(customer, channel) for channel in ("email", "sms", "live", "email", "live")]
    for one, status in zip(sent, ("delivered", "delivered", "sent", "delivered", "sent"), strict=True):
        await notices.becomes(one, status)
    newest = sent[::-1]
    everything = await notices.pages("/api/v1/notifications", recipientId=customer, pageSize=2)
    assert [one["id"] for one in everything] == newest
    assert {(one["channel"], one["subject"], one["provider"]) for one in everything} == {
        ("email", "A test", "smtp"),
        ("sms", None, "africas-talking"),
        ("live", "A test", "live"),
    }
    assert [one["id"] for one in await notices.history(recipientId=customer, channel="live")] == [sent[4], sent[2]]
    second = await notices.history(recipientId=customer, page=2, pageSize=2)
    assert [one["id"] for one in second] == newest[2:4]
    at = {one["id"]: one["createdAt"] for one in everything}
    between = {"from": at[sent[1]], "to": at[sent[3]]}
    assert [one["id"] for one in await notices.history(recipientId=customer, **between)] == [sent[3], sent[2], sent[1]]
    async with client_of(stack, NOTIFICATION, bearer(stack, "user", sub=customer)) as own:
        assert [one["id"] for one in await Notices(own).history()] == newest
