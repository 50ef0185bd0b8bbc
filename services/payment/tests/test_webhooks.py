"""Webhooks: believed for their signature alone, and harmless whenever and however often they come."""

import asyncio
import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
import sqlalchemy as sa

from chassis.ids import new_id
from chassis.retention import throw_out
from payment.tables import webhooks
from stack.eventually import eventually

NEWER = "whsec_" + base64.b64encode(b"the newer secret of the two, 24+").decode()
OLDER = "whsec_" + base64.b64encode(b"the older secret of the two, 24+").decode()
FOREIGN = "whsec_" + base64.b64encode(b"somebody else's secret, of 24+").decode()
OF_B = "whsec_" + base64.b64encode(b"provider b's own secret, of 24+").decode()
PAID = {"key": "o-1:charge", "orderId": "o-1", "amount": "9.00", "currency": "USD", "paymentMethod": "credit_card"}


def signed(body: bytes, *, secret: str = NEWER, ago: float = 0, delivery_id: str | None = None) -> dict[str, str]:
    """As the specification says, without the library that verifies it."""
    delivery_id = delivery_id or f"msg_{new_id()}"
    stamp = str(int(datetime.now(UTC).timestamp() - ago))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = hmac.new(key, f"{delivery_id}.{stamp}.".encode() + body, sha256).digest()
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
        "content-type": "application/json",
    }


@pytest.fixture
def sidecar(sidecar):
    sidecar.secrets["provider-webhook-secrets"] = json.dumps({"a": f"{NEWER}, {OLDER}", "b": OF_B})
    return sidecar


@pytest.fixture
async def client(running, a, b):
    async with running(by_name={"a": a, "b": b}, routes=({"weights": {"a": 1, "b": 0}},)) as client:
        yield client


@pytest.fixture
def provider_calls(client):
    """A provider's webhook without our sidecar's token, or any other."""

    async def call(content, *, provider="a", headers=None, **how):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        del_token = {"dapr-api-token": "", "X-Tenant-Id": ""}
        url = f"/api/v1/webhooks/{provider}"
        return await client.post(url, content=body, headers=del_token | (headers or signed(body, **how)))

    return call


@pytest.fixture
async def unknown(client, a):
    """A charge whose outcome we don't know."""
    a.next_posts.append("down")
    a.blind = True
    return (await client.post("/process-payment", json=PAID)).json()["paymentId"]


@pytest.fixture
def stands(client, issuer):
    async def read(payment_id):
        return (await client.get(f"/api/v1/payments/{payment_id}", headers=issuer.bearer("staff"))).json()

    return read


@pytest.mark.parametrize("secret", [NEWER, OLDER])
async def test_while_secrets_rotate_either_signs(provider_calls, webhook_body, unknown, stands, secret):
    answer = await provider_calls(webhook_body("charge.approved", key="o-1:charge"), secret=secret)

    assert (answer.status_code, answer.content) == (204, b"")
    payment = await stands(unknown)
    assert (payment["status"], payment["transactionId"]) == ("succeeded", "tx-o-1:charge")


async def test_each_provider_speaks_by_its_own_secret_and_for_itself_alone(
    provider_calls, webhook_body, unknown, stands
):
    word = webhook_body("charge.approved", key="o-1:charge")

    assert (await provider_calls(word, provider="a", secret=OF_B)).status_code == 401
    assert (await provider_calls(word, provider="b", secret=NEWER)).status_code == 401
    assert (await stands(unknown))["status"] == "processing"
    assert (await provider_calls(word, provider="b", secret=OF_B)).status_code == 204  # it is none of its charges


async def test_its_effect_and_that_it_was_taken_are_one_transaction(opened, provider, tell):
    """Whatever dies between two would leave one without the other."""
    till = await opened()
    provider.next_posts.append("down")
    provider.blind = True
    await till.pay()
    writes = []
    write = till.parts.db.write
    till.parts.db.write = lambda work: writes.append(work) or write(work)
    for _ in range(2):
        await tell(till, "a", "charge.approved", key="o-1:charge", delivery_id="msg_1")

    assert len(writes) == 1
    ids = sa.select(webhooks.c.id)
    assert await till.parts.db.read(lambda conn: list(conn.scalars(ids))) == ["msg_1"]


async def test_five_minutes_either_way_are_tolerated_and_more_is_not(provider_calls, webhook_body, unknown, stands):
    for ago in (302, -302, 86_400):
        answer = await provider_calls(webhook_body("charge.approved", key="o-1:charge"), ago=ago)
        assert (answer.status_code, answer.json()["errorType"]) == (401, "webhook-not-signed")
    assert (await stands(unknown))["status"] == "processing"

    for ago in (295, -295):
        assert (await provider_calls(webhook_body("charge.approved", key="k"), ago=ago)).status_code == 204


GARBLED = [
    {"webhook-signature": ""},
    {"webhook-signature": "v1"},
    {"webhook-signature": "v1,"},
    {"webhook-signature": "v1,not base64!"},
    {"webhook-signature": "v1,AAA"},
    {"webhook-signature": "v1,a,b"},
    {"webhook-signature": "v1,\u00fc".encode()},
    {"webhook-signature": "v2,AAAA"},
    {"webhook-timestamp": ""},
    {"webhook-timestamp": "now"},
    {"webhook-timestamp": "nan"},
    {"webhook-timestamp": "inf"},
    {"webhook-timestamp": "9" * 400},
    {"webhook-id": ""},
    {"webhook-id": "another"},
]


async def test_a_signature_that_is_missing_garbled_or_for_something_else_is_a_401(provider_calls, webhook_body):
    body = json.dumps(webhook_body("charge.approved", key="o-1:charge")).encode()
    for garbled in GARBLED:
        headers = signed(body) | garbled
        answer = await provider_calls(body, headers={name: value for name, value in headers.items() if value})
        assert (answer.status_code, answer.json()["errorType"]) == (401, "webhook-not-signed"), garbled


async def test_a_body_or_a_secret_that_was_not_signed_with_is_a_401(provider_calls, webhook_body, unknown, stands):
    body = json.dumps(webhook_body("charge.approved", key="o-1:charge")).encode()

    assert (await provider_calls(body + b" ", headers=signed(body))).status_code == 401
    assert (await provider_calls(b"\xff\xfe", headers=signed(b""))).status_code == 401
    assert (await provider_calls(body, secret=FOREIGN)).status_code == 401
    assert (await stands(unknown))["status"] == "processing"


async def test_the_same_delivery_again_does_nothing(provider_calls, webhook_body, unknown, stands):
    body = webhook_body("charge.approved", key="o-1:charge")
    for _ in range(3):
        assert (await provider_calls(body, delivery_id="msg_1")).status_code == 204
    at_once = await asyncio.gather(*(provider_calls(body, delivery_id="msg_2") for _ in range(4)))

    assert {answer.status_code for answer in at_once} == {204}
    assert (await stands(unknown))["version"] == 2


async def test_replayed_later_than_the_tolerance_it_is_refused(provider_calls, webhook_body):
    body = json.dumps(webhook_body("charge.approved", key="o-1:charge")).encode()

    assert (await provider_calls(body, headers=signed(body, ago=301, delivery_id="msg_1"))).status_code == 401


@pytest.mark.parametrize(("first", "then"), [("approved", "declined"), ("declined", "approved")])
async def test_of_two_that_contradict_the_first_stands_and_a_person_hears_of_it(  # noqa: PLR0917
    opened, provider, tell, capture, first, then
):
    till = await opened()
    provider.next_posts.append("down")
    provider.blind = True
    await till.pay()
    await tell(till, "a", f"charge.{first}", key="o-1:charge")
    with capture() as logs:
        await tell(till, "a", f"charge.{then}", key="o-1:charge")

    assert (await till.charge_row()).status == {"approved": "succeeded", "declined": "declined"}[first]
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["charge.contradicted"]
    assert len(await till.moves()) == len(await till.events()) == 1
    assert (await till.moves())[0].actor == "webhook of provider a"


async def test_it_may_come_before_the_charges_own_answer(opened, provider, tell, capture):
    till = await opened()
    provider.may_answer.clear()
    paying = asyncio.create_task(till.pay())
    await eventually(lambda: provider.captured, every=0.01)
    await tell(till, "a", "charge.approved", key="o-1:charge")
    with capture() as logs:
        provider.may_answer.set()
        assert (await paying).status == "succeeded"

    assert not [line for line in logs if line["log_level"] == "error"]
    assert (len(await till.moves()), len(await till.events())) == (1, 1)


async def test_a_refunds_may_come_before_the_charge_or_the_refund_is_known(opened, provider, tell):
    till = await opened()
    await tell(till, "a", "refund.succeeded", key="o-1:refund", refundId="r-1")
    provider.next_posts.append("down")
    provider.blind = True
    await till.pay()
    await tell(till, "a", "refund.succeeded", key="o-1:refund", refundId="r-1")
    await tell(till, "a", "charge.approved", key="o-1:charge")

    row = await till.charge_row()
    assert (row.status, row.refunded, len(await till.moves())) == ("succeeded", 0, 1)


async def test_it_settles_an_open_refund_once(opened, provider, tell):
    till = await opened()
    paid = (await till.pay()).payment_id
    provider.next_posts.append("down")
    provider.blind = True
    await till.give_back(paid, "4.00")
    for _ in range(2):
        await tell(till, "a", "refund.succeeded", key="o-1:refund", refundId="r-1", amount="4.00")

    refund = await till.refund_row()
    assert (refund.status, refund.transaction_id) == ("succeeded", "r-1")
    assert (await till.charge_row()).status == "partially_refunded"
    assert [row.type for row, _ in await till.events()] == ["payment.captured.v1", "payment.refunded.v1"]


async def test_a_refund_that_was_given_after_all_is_an_alert(opened, provider, tell, capture):
    till = await opened()
    paid = (await till.pay()).payment_id
    provider.next_posts.append("refuse")
    await till.give_back(paid, "4.00")
    with capture() as logs:
        await tell(till, "a", "refund.succeeded", key="o-1:refund", amount="4.00")

    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["refund.contradicted"]


async def test_a_refund_begun_again_is_settled_by_its_new_key_and_of_its_old_one_a_person_hears(
    opened, provider, tell, capture
):
    till = await opened()
    paid = (await till.pay()).payment_id
    provider.next_posts.extend(["refuse", "down"])
    provider.blind = True
    await till.give_back(paid, "4.00")
    assert (await till.give_back(paid, "4.00")).status == "processing"
    with capture() as logs:
        await tell(till, "a", "refund.succeeded", key="o-1:refund", amount="4.00")
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["refund.contradicted"]
    assert (await till.refund_row()).status == "processing"

    again = (await till.refund_row()).id + ":2"
    await tell(till, "a", "refund.succeeded", key=again, refundId="r-2", amount="4.00")

    row = await till.refund_row()
    assert (row.status, row.transaction_id) == ("succeeded", "r-2")


@pytest.mark.parametrize("wrong", [{"amount": "9.01"}, {"amount": "9.001"}, {"currency": "EUR"}, {"currency": "QQQ"}])
@pytest.mark.parametrize("kind", ["charge.approved", "charge.declined", "refund.succeeded"])
async def test_other_money_books_nothing_and_is_an_alert(opened, provider, tell, capture, kind, wrong):  # noqa: PLR0917
    till = await opened()
    if kind == "refund.succeeded":
        paid = (await till.pay()).payment_id
        provider.next_posts.append("down")
        provider.blind = True
        await till.give_back(paid, "9.00")
    else:
        provider.next_posts.append("down")
        provider.blind = True
        await till.pay()
    before = len(await till.moves())
    with capture() as logs:
        await tell(till, "a", kind, key="o-1:refund" if kind.startswith("refund") else "o-1:charge", **wrong)

    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["webhook.other_amount"]
    assert len(await till.moves()) == before


async def test_another_providers_word_on_a_charge_books_nothing(opened, provider, tell):
    till = await opened()
    provider.next_posts.append("down")
    provider.blind = True
    await till.pay()
    await tell(till, "b", "charge.approved", key="o-1:charge")

    assert (await till.charge_row()).status == "processing"


async def test_a_key_of_nobodys_and_a_type_of_no_concern_are_acknowledged(provider_calls, webhook_body, capture):
    with capture() as logs:
        unknown_key = await provider_calls(webhook_body("charge.approved", key="nobody's"))
        other = await provider_calls({"type": "payout.paid", "data": {"anything": 1.5}})
        odd = [await provider_calls({"type": kind}) for kind in (None, 7, [], {}, ["charge.approved"])]
        no_type = await provider_calls({})

    assert [one.status_code for one in (unknown_key, other, no_type, *odd)] == [204] * 8
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["webhook.unknown_key"]


MISSHAPEN = [
    ({"amount": 9.0}, "/data/amount"),
    ({"amount": 9}, "/data/amount"),
    ({"amount": "9e0"}, "/data/amount"),
    ({"amount": "-9.00"}, "/data/amount"),
    ({"amount": "\uff19.00"}, "/data/amount"),
    ({"currency": "usd"}, "/data/currency"),
    ({"transactionId": ""}, "/data/transactionId"),
    ({"transactionId": "t" * 129}, "/data/transactionId"),
    ({"transactionId": "t\u0000"}, "/data/transactionId"),
    ({"idempotencyKey": "k\u0000"}, "/data/idempotencyKey"),
    ({"idempotencyKey": "k" * 256}, "/data/idempotencyKey"),
    ({"reason": "r\u0000"}, "/data/reason"),
    ({"reason": "card 4111 1111 1111 1111"}, "/data/reason"),
]


async def test_a_signed_body_of_another_shape_is_refused_by_field(provider_calls, webhook_body):
    good = webhook_body("charge.approved", key="o-1:charge")
    for change, pointer in MISSHAPEN:
        answer = await provider_calls(good | {"data": good["data"] | change})
        assert (answer.status_code, [one["pointer"] for one in answer.json()["errors"]]) == (422, [pointer]), change


async def test_a_signed_body_that_is_no_json_is_a_400(provider_calls):
    for body in (b"", b"no json", b"{", b'{"type": NaN}'):
        answer = await provider_calls(body)
        assert (answer.status_code, answer.json()["errorType"]) == (400, "malformed-json"), body


async def test_a_signed_body_that_is_no_delivery_is_a_422(provider_calls):
    for body in (b"[]", b"7", b"null", b'"text"', b'{"type": "charge.approved"}'):
        assert (await provider_calls(body)).status_code == 422, body


async def test_what_is_too_long_is_refused(provider_calls, webhook_body, a):
    long_id = await provider_calls(webhook_body("charge.approved", key="k"), delivery_id="m" * 129)
    big = await provider_calls(b'{"type": "' + b"x" * 1_000_001 + b'"}')

    assert (long_id.status_code, big.status_code) == (422, 413)
    assert a.posts == []


async def test_a_provider_that_is_not_ours_is_a_404(provider_calls, webhook_body):
    answer = await provider_calls(webhook_body("charge.approved", key="k"), provider="c")

    assert (answer.status_code, answer.json()["errorType"]) == (404, "provider-not-found")


async def test_neither_secret_nor_payload_is_logged(provider_calls, webhook_body, capture):
    telltale = "a-reason-of-their-own"
    body = json.dumps(webhook_body("charge.approved", key="o-1:charge", reason=telltale)).encode()
    with capture() as logs:
        good = await provider_calls(body)
        bad = await provider_calls(body, secret=FOREIGN)
        broken = await provider_calls(body[:-1])
        garbled = await provider_calls(body, headers=signed(body) | {"webhook-signature": "v1,AAA"})

    said = repr(logs) + good.text + bad.text + broken.text + garbled.text
    assert [one.status_code for one in (good, bad, broken, garbled)] == [204, 401, 400, 401]
    for secret in (NEWER, OLDER, telltale, signed(body)["webhook-signature"]):
        assert secret not in said


async def test_what_had_an_effect_is_remembered_for_a_week(opened, provider, tell):
    till = await opened(by_name={"a": provider})

    async def remembered() -> list[str]:
        ids = sa.select(webhooks.c.id).order_by(webhooks.c.id)
        return await till.parts.db.read(lambda conn: list(conn.scalars(ids)))

    for key in ("o-1:charge", "o-2:charge"):
        provider.next_posts.extend(["down", "down"])
        assert (await till.pay(key=key, order_id=key[:3])).status == "processing"
        await tell(till, "a", "charge.approved", key=key, delivery_id=key)
        await tell(till, "a", "charge.approved", key=key, delivery_id=f"{key} once more")
    await tell(till, "a", "charge.approved", key="nobody's", delivery_id="of nobody")
    assert await remembered() == ["o-1:charge", "o-2:charge"]

    week = timedelta(days=7, minutes=1)
    old = webhooks.update().where(webhooks.c.id == "o-1:charge").values(received_at=datetime.now(UTC) - week)
    await till.parts.db.write(lambda conn: conn.execute(old))
    await throw_out(till.parts.db, (till.parts.webhooks.expiry,))
    assert await remembered() == ["o-2:charge"]
