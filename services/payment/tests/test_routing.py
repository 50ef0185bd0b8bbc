"""Rules that are data: which provider takes a charge, and which stand in for it."""

from collections import Counter
from decimal import Decimal

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from chassis.flags.memory import Flags, Setting
from chassis.ids import new_id
from payment.app import assemble
from payment.routing import DEFAULT, SETTING, Routes, Rule, route
from stack.eventually import eventually


def routed(rules, *, amount="9.00", currency="USD", key="o-1:charge"):
    return route(rules, key=key, amount=Decimal(amount), currency=currency)


def test_without_rules_of_ones_own_a_takes_all_and_b_stands_in():
    assert {tuple(routed(DEFAULT, key=new_id())) for _ in range(50)} == {("a", "b")}


@pytest.mark.parametrize(
    ("amount", "currency", "chosen"),
    [
        ("9.99", "USD", "small"),
        ("10", "USD", "middle"),
        ("99.99", "USD", "middle"),
        ("100.00", "USD", "any"),
        ("9.99", "EUR", "any"),
        ("50", "JPY", "any"),
    ],
)
def test_the_first_rule_that_fits_decides(amount, currency, chosen):
    rules = (
        Rule(currencies=frozenset({"USD"}), below=Decimal(10), weights={"small": 1}),
        Rule(currencies=frozenset({"USD"}), at_least=Decimal(10), below=Decimal(100), weights={"middle": 1}),
        Rule(weights={"any": 1}),
    )

    assert routed(rules, amount=amount, currency=currency) == [chosen]


def test_weights_share_charges_out_and_the_heaviest_others_stand_in_first():
    rules = (Rule(weights={"a": 70, "b": 20, "c": 10, "z": 0}),)
    routes = [routed(rules, key=f"{new_id()}:charge") for _ in range(4000)]
    share = Counter(one[0] for one in routes)

    assert set(share) == {"a", "b", "c"}
    assert abs(share["a"] - 2800) < 200
    assert abs(share["b"] - 800) < 150
    assert {tuple(one) for one in routes} == {("a", "b", "c", "z"), ("b", "a", "c", "z"), ("c", "a", "b", "z")}


def test_a_key_always_comes_to_the_same_provider():
    rules = (Rule(weights={"a": 50, "b": 50}),)
    again = (Rule(weights={"b": 50, "a": 50}),)  # another order in the file

    for key in (f"{new_id()}:charge" for _ in range(100)):
        assert routed(rules, key=key) == routed(again, key=key) == routed(rules, key=key)


def test_where_no_rule_fits_nobody_charges():
    assert routed((Rule(currencies=frozenset({"EUR"}), weights={"a": 1}),)) == []


@pytest.mark.parametrize("weights", [{}, {"a": 0}, {"a": 1, "b": -1}, {"a": "many"}])
def test_weights_that_choose_nobody_are_refused(weights):
    with pytest.raises(ValidationError):
        Rule.model_validate({"weights": weights})


def test_a_misspelt_rule_is_refused():
    with pytest.raises(ValidationError):
        Rule.model_validate({"weights": {"a": 1}, "under": "10"})


def test_a_rule_that_names_nobody_we_know_is_refused_at_the_start(settings, sidecar):
    with pytest.raises(ValueError, match=r"PAYMENT_ROUTES.*nobody"):
        assemble(settings(routes=[{"weights": {"a": 1, "nobody": 0}}]), sidecar)


EUR_ONLY = [{"currencies": ["EUR"], "weights": {"a": 1}}]
BODY = {"key": "k", "orderId": "o", "amount": "1.00", "currency": "USD", "paymentMethod": "credit_card"}


async def test_what_no_provider_takes_is_failed_for_good_and_nobody_is_asked(running, provider):
    async with running(by_name={"a": provider}, routes=EUR_ONLY) as client:
        refused = [await client.post("/process-payment", json=BODY) for _ in range(2)]
        taken = await client.post("/process-payment", json=BODY | {"key": "l", "currency": "EUR"})

    assert [(one.status_code, one.json()["status"]) for one in refused] == [(200, "failed")] * 2
    assert taken.json()["status"] == "succeeded"
    assert provider.posts == ["l"]


async def test_what_is_on_record_is_answered_by_its_record_whatever_the_rules_say_now(opened, provider):
    before = await opened(by_name={"a": provider})
    paid = await before.pay()
    await before.kill()
    after = await opened(by_name={"a": provider}, routes=EUR_ONLY)

    assert await after.pay() == paid
    assert await after.settle() == paid
    assert (await after.settle(key="o-2:charge", order_id="o-2")).status == "failed"
    assert provider.posts == ["o-1:charge"]


# --- the setting ---

TO_B = [{"weights": {"b": 1}}]


class Set:
    """`Routing:Payments`, as the operator sets it one time after the other."""

    def __init__(self) -> None:
        self.flags, self.version = Flags(), 0
        self.routes = Routes(DEFAULT, providers={"a", "b"}, flags=self.flags)

    def to(self, value):
        self.version += 1
        self.flags.put(Setting("", SETTING, self.version, value))
        return routed(self.routes.rules)[0]


def test_the_setting_stands_in_for_the_environment_while_it_is_enabled():
    setting = Set()

    assert routed(setting.routes.rules)[0] == "a"
    assert setting.to(TO_B) == "b"
    assert setting.to(None) == "a"


@pytest.mark.parametrize(
    "unusable",
    [
        [],
        "b",
        [{"weights": {}}],
        [{"weights": {"b": 0}}],
        [{"weights": {"nobody": 1}}],
        [{"weights": {"a": 1}, "under": "10"}],
        [{"weights": {"a": 1}, "below": "much"}],
    ],
)
def test_of_a_setting_that_can_not_be_used_nothing_is_taken_and_it_is_said_once(unusable):
    setting = Set()
    setting.to(TO_B)

    with capture_logs() as logs:
        assert setting.to(unusable) == "b"
        assert routed(setting.routes.rules)[0] == "b"

    assert [log["event"] for log in logs] == ["routes.refused"]
    assert setting.to(None) == "a"


async def test_what_is_told_to_payment_charges_from_then_on(running, provider):
    other = type(provider)()
    event = {
        "id": "e-1",
        "type": "setting.changed.v1",
        "source": "backoffice-service",
        "data": {"tenant": "", "key": SETTING, "version": 1, "value": TO_B},
    }
    async with running(by_name={"a": provider, "b": other}) as client:
        assert (await client.post("/events/settings", json=event)).json() == {"status": "SUCCESS"}

        async def charged_at_b():
            await client.post("/process-payment", json=BODY | {"key": new_id()})
            return other.posts

        await eventually(charged_at_b, every=0.01)
