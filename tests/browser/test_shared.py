"""What every page stands on: `web/shared/`."""

from collections.abc import Callable
from typing import Any

from windows import Brewline, Open, Window, wait

ORDER = {
    "customer": {"id": "c-1", "name": "Ada", "email": "ada@example.com"},
    "items": [{"sku": "latte", "variation": "vanilla", "quantity": 1}],
    "location": "take-away",
    "currency": "USD",
    "payment": {"method": "credit_card", "token": "tok_ok"},
}
FOLLOW = """
window.seen = {events: [], states: []};
import("/web/shared/stream.js").then(({follow}) => follow("order-service", "/orders/stream", {
  onEvent: (event) => seen.events.push(`${event.data.orderId} ${event.event}`),
  onState: (state) => seen.states.push(state),
}));
"""
CALL = """
const [service, path, done] = arguments;
import("/web/shared/api.js").then(({api}) => api(service).get(path)).then(done, (error) => done({...error}));
"""


def placed(brewline: Brewline) -> str:
    with brewline.client("order-service") as client:
        answer = client.post("/api/v1/orders", json=ORDER)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]


def test_a_stream_tells_everything_once_though_its_service_dies_and_comes_back(
    brewline: Brewline, window: Open, signed_in: Callable[..., Window]
):
    page = signed_in(window(), "staff")
    page.execute_script(FOLLOW)
    wait(page).until(lambda page: page.execute_script("return seen.states.includes('live')"))
    first = placed(brewline)

    brewline.stack.kill_app("order-service")
    wait(page).until(lambda page: page.execute_script("return seen.states.includes('waiting')"))
    brewline.stack.start_app("order-service")
    second = placed(brewline)  # it may be back before the page is

    wanted = {f"{order} order.confirmed" for order in (first, second)}
    wait(page).until(lambda page: wanted <= set(page.execute_script("return seen.events")))
    events: list[str] = page.execute_script("return seen.events")
    assert len(events) == len(set(events))


def test_a_page_calls_every_service_and_gets_problems_as_they_are(window: Open, signed_in: Callable[..., Window]):
    page = signed_in(window(), "staff")

    def call(service: str, path: str) -> Any:
        return page.execute_async_script(CALL, service, path)

    for service in ("order", "payment", "notification", "datasource", "backoffice"):
        assert call(f"{service}-service", "/health")["status"] in {"Healthy", "Degraded"}, service
    assert call("order-service", "/orders?limit=1").keys() == {"items", "next"}
    problem = call("order-service", "/orders/00000000-0000-7000-8000-000000000000")
    assert (problem["status"], problem["errorType"]) == (404, "order-not-found")
    assert problem["traceId"]
