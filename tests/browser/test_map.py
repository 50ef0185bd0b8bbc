"""The map of services: drawn from what was traced, and the same as a table."""

from collections.abc import Callable, Iterator

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind
from selenium.webdriver.common.by import By
from test_console import PHONE, WIDTH
from windows import Brewline, Open, Window, see, sign_in, stack_of, wait

Sign = Callable[..., Window]
Check = Callable[[Window], None]
Take = Callable[[Window, str], None]


def rows(page: Window) -> set[tuple[str, ...]]:
    found = page.find_elements(By.CSS_SELECTOR, "main tbody tr")
    return {tuple(cell.text for cell in row.find_elements(By.TAG_NAME, "td")[:3]) for row in found}


def report_failed_call(brewline: Brewline, caller: str, callee: str) -> None:
    """As the caller itself would: a call that really failed would open a breaker in the other tests' way."""
    receiver = brewline.stack.app_env("backoffice-service")["BACKOFFICE_TRACES"].removeprefix("receiver:")
    provider = TracerProvider(resource=Resource({"service.name": caller}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{receiver}/v1/traces")))
    told = {"peer.service": callee, "http.response.status_code": 503, "tenant": "default"}
    provider.get_tracer("tests").start_span("invoke", kind=SpanKind.CLIENT, attributes=told).end()
    provider.shutdown()


def test_the_map_shows_who_called_whom_and_what_fails_comes_first(
    brewline: Brewline, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take
):
    brewline.paid()
    report_failed_call(brewline, "payment-service", "payment-c")
    page = signed_in(window(height=1200), to="/ops#/map")
    expected = {
        ("order-service", "payment-service", "call"),
        ("payment-service", "payment-a", "call"),
        ("order-service", "notification-service", "event"),
        ("notification-service", "order-service", "event"),
    }
    wait(page).until(lambda page: expected <= rows(page), "the map is not whole")
    wait(page).until(
        lambda page: ("payment-service", "payment-c", "call") in rows(page), "the failed call is not there"
    )
    worst = page.find_element(By.CSS_SELECTOR, "main tbody tr").text
    assert "payment-c" in worst
    assert "100%" in worst
    drawn = page.find_element(By.CSS_SELECTOR, ".map svg").text
    for name in ("order", "payment", "payment-a", "payment-c", "100% failed", "notification"):
        assert name in drawn, name
    no_violations(page)
    screenshot(page, "console-map-light")

    phone = signed_in(window(**PHONE, scheme="dark", language="de"), to="/ops#/map")
    see(phone, "Karte")
    wait(phone).until(lambda page: page.find_elements(By.CSS_SELECTOR, ".map svg"))
    no_violations(phone)
    screenshot(phone, "console-map-phone-dark-german")
    assert phone.execute_script(WIDTH) <= PHONE["width"]


@pytest.fixture
def untraced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brewline]:
    with stack_of(tmp_path_factory.mktemp("untraced"), apps=["sandbox", "backoffice-service"]) as stack:
        yield Brewline(stack=stack)


def test_where_nothing_is_traced_the_map_says_so(
    untraced: Brewline, window: Open, no_violations: Check, screenshot: Take
):
    page = sign_in(untraced, window(), "staff", to="/ops#/map")
    see(page, "No store of traces is configured")
    see(page, "BACKOFFICE_TRACES")
    no_violations(page)
    screenshot(page, "console-map-not-configured")
