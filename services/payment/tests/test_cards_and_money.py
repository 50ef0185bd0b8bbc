"""No card number comes in, no float is money, and what is neither is let in."""

import pytest

from chassis.ids import new_id
from payment.domain import Status
from payment.tables import payments

CARD, NUMBER = "4111 1111 1111 1111", 4111111111111111  # how else one may be written: chassis' test_cards
PAID = {"key": "o-1:charge", "orderId": "o-1", "amount": "9.00", "currency": "USD", "paymentMethod": "credit_card"}
REFUND = {"key": "o-1:refund", "paymentId": "p", "amount": "1.00"}
SETTLED = {"outcome": "succeeded", "transactionId": "t-1", "reason": "told so"}


@pytest.fixture
async def bodies(desk):
    """Every route that takes a body, with one that it would take."""
    paid = (await desk.pay()).json()["paymentId"]
    bearer = desk.issuer.bearer("admin") | {"Idempotency-Key": "k"}
    return {
        "/process-payment": (PAID, {}),
        "/refund-payment": (REFUND, {}),
        f"/api/v1/payments/{paid}/refunds": ({"amount": "1.00"}, bearer),
        f"/api/v1/payments/{paid}/settle": (SETTLED, bearer),
        f"/api/v1/refunds/{new_id()}/settle": (SETTLED, bearer),
    }


async def test_a_card_number_is_refused_by_every_route_and_neither_echoed_nor_logged(desk, bodies, capture, provider):
    with capture() as logs:
        for path, (body, headers) in bodies.items():
            for field in (*body, "unknown"):
                for card in (CARD, NUMBER):
                    answer = await desk.client.post(path, json=body | {field: card}, headers=headers)
                    assert (answer.status_code, answer.json()["errorType"]) == (422, "invalid-request"), (path, field)
                    assert [one["pointer"] for one in answer.json()["errors"]] == [f"/{field}"]
                    assert str(card) not in answer.text
            nested = await desk.client.post(path, json=body | {"x": {"y": [1, CARD]}}, headers=headers)
            as_name = await desk.client.post(path, json=body | {"x": {CARD: 1}}, headers=headers)
            assert [nested.json()["errors"][0]["pointer"], as_name.json()["errors"][0]["pointer"]] == ["/x/y/1", "/x"]
            assert CARD not in nested.text + as_name.text

    assert not any(str(card) in repr(logs) for card in (CARD, NUMBER))
    assert provider.posts == ["o-1:charge"]


BAD_AMOUNTS = [
    9.0, 9, True, None, [], {}, "", " 9.00", "9.00 ", "9.00\n", "1e2", "1E2", "NaN", "Infinity", "-1.00", "+1.00",
    "0", "0.00", "9.005", "9.", ".9", "9,00", "1_000", "0x10", "\uff19.00", "\u0669", "9" * 15, "9.00001",
]  # fmt: skip


async def test_a_member_that_nobody_knows_is_refused_by_every_route_and_moves_nothing(desk, bodies, provider):
    """`{"amout": "1.00"}` once gave all of it back."""
    for path, (body, headers) in bodies.items():
        for unknown in ("amout", "Amount", "card_token", "a/b"):
            answer = await desk.client.post(path, json=body | {unknown: "1.00"}, headers=headers)
            assert (answer.status_code, answer.json()["errorType"]) == (422, "invalid-request"), (path, unknown)
            assert [field["pointer"] for field in answer.json()["errors"]] == [f"/{unknown.replace('/', '~1')}"]
    inner = {"amount": {"amount": "1.00", "currency": "USD", "curency": "EUR"}}
    path, (_, headers) = next((path, known) for path, known in bodies.items() if path.endswith("/refunds"))
    answer = await desk.client.post(path, json=inner, headers=headers)

    assert "/amount/curency" in [field["pointer"] for field in answer.json()["errors"]]
    assert provider.posts == ["o-1:charge"]


async def test_no_float_exponent_sign_or_fraction_too_fine_is_money(desk, provider):
    paid = (await desk.pay()).json()["paymentId"]
    for amount in BAD_AMOUNTS:
        answers = [
            await desk.pay(key="k", amount=amount),
            await desk.client.post("/refund-payment", json=REFUND | {"paymentId": paid, "amount": amount}),
            *([await desk.give_back(paid, {"amount": amount})] if amount is not None else []),
            await desk.give_back(paid, {"amount": {"amount": amount, "currency": "USD"}}),
        ]
        assert [answer.status_code for answer in answers] == [422] * len(answers), amount
    for raw in (b'{"amount": 1e2}', b'{"amount": NaN}', b'{"amount": -1}', b'{"amount": 9.00}'):
        assert (await desk.give_back(paid, raw)).status_code in {400, 422}
    assert provider.posts == ["o-1:charge"]


@pytest.mark.parametrize("field", ["key", "orderId", "paymentMethod"])
async def test_text_that_no_database_would_keep_is_refused(desk, field):
    answer = await desk.pay(**{field: "a\x00b"})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"/{field}")


async def test_what_is_kept_are_minor_units(desk, sql):
    for key, (amount, currency) in {"j": ("900", "JPY"), "u": ("9.5", "USD"), "k": ("1.234", "KWD")}.items():
        assert (await desk.pay(key=key, amount=amount, currency=currency)).json()["status"] == Status.SUCCEEDED

    assert dict(tuple(row) for row in sql(payments.select().with_only_columns(payments.c.key, payments.c.amount))) == {
        "j": 900,
        "u": 950,
        "k": 1234,
    }
