"""The programs of examples/ beside a whole Brewline, as their READMEs say to run them: they hear its orders, place one,
and it hears of their loan. `make test-more` gets what they need."""

import re
import shutil
from secrets import randbelow

import pytest
from elsewhere import Elsewhere, told_by

from chassis.ids import new_id
from stack.eventually import eventually

pytestmark = [pytest.mark.integration, pytest.mark.more]
needs_node = pytest.mark.skipif(not shutil.which("npm"), reason="needs Node and npm")
needs_go = pytest.mark.skipif(not shutil.which("go"), reason="needs Go")

PARTNER, TELL = "examples/partner", "./partner -application LA-2026-0042"


@needs_node
async def test_the_kitchen_display_shows_an_order_until_it_is_ready_and_nothing_of_its_customer(elsewhere: Elsewhere):
    at = "examples/kitchen-display"
    start, order_and_look = told_by(f"{at}/README.md")

    def shown() -> dict[str, str]:
        return {order["orderId"]: order["status"] for order in elsewhere.get("http://localhost:8010/to-make")}

    with elsewhere.goes_on(start, at=at) as said:
        await eventually(lambda: "Registered 1 PubSub" in said.read_text(), within=60)
        told = elsewhere.typed(order_and_look, at=at)
        order_id = ordered(told)
        await eventually(lambda: shown().get(order_id) == "confirmed", within=20)
        assert "Ada" not in told.splitlines()[-1]
        with elsewhere.client("ORDER") as staff:
            for status in ("preparation", "ready"):
                staff.post(f"/api/v1/orders/{order_id}/status", json={"status": status}).raise_for_status()
        await eventually(lambda: order_id not in shown(), within=20)
        assert f"confirmed {order_id}: 1 x Latte (vanilla)" in said.read_text()


async def test_the_plain_service_adds_up_what_was_taken(elsewhere: Elsewhere):
    at = "examples/plain"
    start, order_and_look = told_by(f"{at}/README.md")

    def taken() -> dict[str, str]:
        return elsewhere.get("http://localhost:8012/takings")

    with elsewhere.goes_on(start, at=at):
        # What is still told of earlier orders counts too.
        await eventually(lambda: ordered(elsewhere.typed(order_and_look, at=at)) and taken().get("USD"), within=60)
        before = float(taken()["USD"])
        elsewhere.typed(order_and_look, at=at)
        await eventually(lambda: float(taken()["USD"]) >= before + 4.5, within=20)


@needs_node
def test_the_till_places_an_order_and_reads_it_back(elsewhere: Elsewhere):
    (commands,) = told_by("examples/till/README.md")

    told = elsewhere.typed(commands.replace("TOKEN=", "ORDERS=http://localhost:8001 TOKEN="), at="examples/till")

    assert re.search(r"^confirmed [0-9a-f-]{36}: 9\.00 USD$", told, re.MULTILINE), told


@needs_go
async def test_the_partners_loan_told_twice_is_one_text_to_its_customer_and_one_e_mail_to_the_branch(
    elsewhere: Elsewhere,
):
    tell, look = told_by(f"{PARTNER}/README.md")
    event, application, phone = new_id(), f"LA-{new_id()}", f"+2547{randbelow(10**8):08}"
    words = f"./partner -application {application} -id {event} -customer c-{event} -phone {phone}"
    address = f"{event}@staff.example"
    at_the_branch = {"name": "Grace", "email": address, "groups": ["branch:branch-7"], "version": 0}
    with elsewhere.client("NOTIFICATION", "admin") as notification:
        notification.put(f"/api/v1/recipients/r-{event}", json=at_the_branch).raise_for_status()
        for _ in range(2):
            elsewhere.typed(tell.replace(TELL, words), at=PARTNER)

        def done() -> bool:
            answer = notification.get(f"/api/v1/sagas/{event}")
            return answer.status_code == 200 and answer.json()["currentStep"] == "Completed"

        await eventually(done, within=60, every=0.2)

    def arrived(where: str) -> list[dict[str, str]]:
        return [one for one in elsewhere.get(f"http://localhost:8009/sandbox/{where}") if application in one["text"]]

    await eventually(lambda: arrived("sms") and arrived("inbox"), within=30, every=0.2)
    (_,), (letter,) = arrived("sms"), arrived("inbox")
    assert address in str(letter["to"])
    assert application in elsewhere.typed(look, at=PARTNER)


@needs_go
def test_an_example_may_tell_nothing_but_what_it_is_for_and_read_no_secret(elsewhere: Elsewhere):
    """By the component's scopes and the examples' configuration, whoever asks: here with the right token."""
    tell, _ = told_by(f"{PARTNER}/README.md")
    ask = (
        'curl -s -o /dev/null -w "%{http_code}\\n" -H "dapr-api-token: $DAPR_API_TOKEN" localhost:$DAPR_HTTP_PORT/v1.0'
    )
    (elsewhere.home / PARTNER / "ask.sh").write_text(
        f"{ask}/publish/pubsub/orders -d {{}}\n{ask}/secrets/secrets/payment-service\n"
    )

    told = elsewhere.typed(tell.replace(TELL, "bash ask.sh"), at=PARTNER)

    assert re.findall(r"== APP == (\d+)", told) == ["403", "403"]


def ordered(told: str) -> str:
    found = re.search(r"^Order ([0-9a-f-]{36}): confirmed", told, re.MULTILINE)
    assert found, told
    return found[1]
