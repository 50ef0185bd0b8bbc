"""Several services hear one topic: what one can't process is kept with its name, and delivered again to it alone. The
second one here, `stock.py`, is new: nothing of notification is changed for it, a declaration is added."""

import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from brewery import NOTIFICATION, bearer, client_of
from conftest import ROOT, specs
from test_events import event

from chassis.ids import new_id
from cli.new_service import scope_topics
from stack.eventually import eventually
from stack.sidecars import AppSpec, Stack

STOCK = "stock-service"
KEPT = """
---
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata:
  name: stock-dead-to-notification
spec:
  pubsubname: pubsub
  topic: orders.stock-service.dead
  routes:
    default: /events/dead/stock-service/orders
scopes:
  - notification-service
"""


@pytest.fixture(scope="module")
def components(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(ROOT / "components", tmp_path_factory.mktemp("stock"), dirs_exist_ok=True))
    with (folder / "subscriptions.yaml").open("a") as file:
        file.write(KEPT)
    for file in (folder / "pubsub.yaml", folder / "secretstore.yaml"):
        file.write_text(file.read_text().replace("\nscopes:\n", f"\nscopes:\n  - {STOCK}\n"))
    scope_topics(folder / "pubsub.yaml", STOCK, publishes=("orders",), hears=("orders",))
    return folder


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory, components: Path) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stocked")
    data = folder / "data"
    data.mkdir()
    ours = [spec for spec in specs(data) if spec.app_id in {"sandbox", NOTIFICATION}]
    stock = AppSpec(app_id=STOCK, command=[sys.executable, str(Path(__file__).with_name("stock.py"))])
    with Stack(apps=[*ours, stock], components=components, run_dir=folder, tools_bin=ROOT / "tools" / "bin") as running:
        yield running


@pytest.fixture(autouse=True)
def fair_weather() -> None:
    """The shared stack and its weather have no part in this."""


class Letters:
    def __init__(self, stack: Stack, admin: httpx.AsyncClient, stock: httpx.AsyncClient) -> None:
        self._stack, self._admin, self.stock = stack, admin, stock

    async def publish(self, told: dict[str, Any]) -> None:
        headers = {"content-type": "application/cloudevents+json", "dapr-api-token": self._stack.dapr_token}
        url = self._stack.sidecar_url(STOCK) + "/v1.0/publish/pubsub/orders"
        (await self._admin.post(url, json=told, headers=headers)).raise_for_status()

    async def kept(self, app_id: str, event_id: str) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            letters = (await self._admin.get("/api/v1/dead-letters")).json()["items"]
            return next((each for each in letters if (each["app"], each["eventId"]) == (app_id, event_id[:255])), None)

        return await eventually(look)

    async def replay(self, letter: dict[str, Any]) -> httpx.Response:
        return await self._admin.post(f"/api/v1/dead-letters/{letter['id']}/replay")

    async def edit(self, letter: dict[str, Any], data: dict[str, Any]) -> httpx.Response:
        url = f"/api/v1/dead-letters/{letter['id']}"
        version = (await self._admin.get(url)).json()["version"]
        return await self._admin.put(url, json={"data": data, "version": version})

    async def messages_about(self, order_id: str) -> list[Any]:
        answer = await self._admin.get("/api/v1/notifications", params={"subjectId": order_id})
        return answer.json()["items"]

    async def heard(self, event_id: str) -> int:
        """How often the stock service was given it."""
        return (await self.stock.get("/heard")).json().count(event_id)

    def delivered(self) -> int:
        """How often notification was given any event of the topic."""
        return self._stack.logs(NOTIFICATION).count('"route":"/events/orders"')


@pytest.fixture
async def letters(stocked: Stack) -> AsyncIterator[Letters]:
    async with (
        client_of(stocked, NOTIFICATION, bearer(stocked, "admin")) as admin,
        client_of(stocked, STOCK) as stock,
    ):
        yield Letters(stocked, admin, stock)


def confirmed(event_id: str) -> dict[str, Any]:
    return event(new_id(), "order.confirmed.v1", version=2, status="confirmed") | {"id": event_id, "subject": None}


async def test_what_one_app_could_not_process_is_delivered_again_to_that_app_alone(letters: Letters):
    told, after = confirmed(new_id()), confirmed(new_id())
    await letters.stock.put("/status/DROP")
    await letters.publish(told)
    letter = await letters.kept(STOCK, told["id"])
    refused = await letters.replay(letter)
    await letters.stock.put("/status/SUCCESS")
    answer = await letters.replay(letter)
    await letters.publish(after)

    assert (refused.status_code, refused.json()["errorType"]) == (409, "not-replayable")
    assert (answer.status_code, letter["topic"], letter["replayedAt"]) == (200, "orders", None), answer.text
    assert answer.json()["replayedAt"]
    assert await letters.heard(told["id"]) == 3
    await eventually(lambda: letters.delivered() >= 2)  # both events, each once
    assert letters.delivered() == 2


async def test_what_notification_could_not_process_is_nobody_elses_again(letters: Letters):
    """An id of more than 255 characters is taken by nobody here, and kept all the same; a replay shortens it."""
    told, after = confirmed("e" * 300), confirmed(new_id())
    await letters.publish(told)
    letter = await letters.kept(NOTIFICATION, told["id"])
    answer = await letters.replay(letter)
    await letters.publish(after)

    assert (answer.status_code, letter["replayedAt"]) == (200, None), answer.text
    assert answer.json()["replayedAt"]
    await eventually(lambda: letters.heard(after["id"]))
    assert await letters.heard(told["id"]) == 1


async def test_an_edited_event_is_processed_by_the_app_that_could_not_read_it(letters: Letters):
    order_id = new_id()
    told = event(order_id, "order.confirmed.v1", version=-1, status="confirmed")
    await letters.publish(told)
    letter = await letters.kept(NOTIFICATION, told["id"])
    refused = await letters.replay(letter)
    edited = await letters.edit(letter, told["data"] | {"version": 2})
    answer = await letters.replay(letter)

    assert (refused.status_code, "version: not a count" in refused.json()["detail"]) == (409, True), refused.text
    assert (edited.status_code, answer.status_code) == (200, 200), edited.text + answer.text
    await eventually(lambda: letters.messages_about(order_id))
