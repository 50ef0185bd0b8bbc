"""Nothing that names a person or opens a door leaves the process in a log record or a span."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import UUID

import httpx
import pytest
import structlog
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis import telemetry
from chassis.redaction import RedactingExporter, redact
from chassis.telemetry import continued


@pytest.mark.parametrize(
    ("value", "redacted"),
    [
        ({"cardToken": "tok_1", "amount": "9.00"}, {"cardToken": "[redacted]", "amount": "9.00"}),
        (
            {"card_token": "x", "PHONE": "y", "E-mail": "z"},
            {"card_token": "[redacted]", "PHONE": "[redacted]", "E-mail": "[redacted]"},
        ),
        ([{"a": {"name": "Ada"}}, ({"email": "a@b.c"},)], [{"a": {"name": "[redacted]"}}, [{"email": "[redacted]"}]]),
        ({"token": {"deep": 1}, "subject": ["x"]}, {"token": "[redacted]", "subject": "[redacted]"}),
        ("text", "text"),
        (None, None),
    ],
)
def test_whatever_stands_under_a_telling_name_is_blanked_at_any_depth(value: Any, redacted: Any):
    assert redact(value) == redacted


def test_redacting_leaves_the_original_as_it_was():
    original = {"phone": "+1", "inner": [{"name": "Ada"}]}

    redact(original)

    assert original == {"phone": "+1", "inner": [{"name": "Ada"}]}


JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1LTEifQ.c2lnbmF0dXJl"
TELLING = [
    "ada@example.org",
    "ada.lovelace+news@mail.example.co.uk",
    "ada%40example.org",
    "ada%2Bnews%40example.org",
    "ünï@example.org",
    "+442079460958",
    "%2B442079460958",
    "+44 20 7946 0958",
    "+1 (555) 123-4567",
    "+49-30-901820",
    JWT,
    f"Bearer {JWT}",
    "bearer abc.def~ghi+/==",
    "BEARER  opaque-token-7",
    "tok_visa_4242",
    "4111111111111111",
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "5555555555554444",
    "3782 822463 10005",
    "6011000990139424",
    "4222222222222",
]


PLACES = [
    "{}",
    "refused: {}.",
    "(<{}>)",
    '"{}"',
    "'{}',",
    "to={}&x=1",
    "a\n{}\nb",
    "\t{}",
    "\x01{}",
    "{0}, {0};{0}",
    "é {} é",
]


@pytest.mark.parametrize("telling", TELLING)
def test_what_gives_itself_away_is_blanked_wherever_it_stands(telling: str):
    for place in PLACES:
        redacted = redact({"note": [{"deep": (place.format(telling),)}]})["note"][0]["deep"][0]

        assert telling not in redacted
        assert redacted.rstrip(".") == place.format("[redacted]").rstrip(".")  # a full stop may be part of a token


@pytest.mark.parametrize("telling", ["4111111111111111", "ada@example.org", "tok_visa"])
def test_letters_and_digits_in_full_width_give_as_much_away(telling: str):
    wide = telling.translate({narrow: narrow + 0xFEE0 for narrow in range(0x21, 0x7F)})

    assert redact({"note": f"naïve {wide} café"}) == {"note": "naïve [redacted] café"}


def test_a_number_and_a_key_give_as_much_away_as_a_text():
    assert redact({"ada@example.org": [4111111111111111, 4111111111111112]}) == {
        "[redacted]": ["[redacted]", 4111111111111112]
    }


HARMLESS = [
    "550e8400-e29b-41d4-a716-446655440000",
    "01932c07-209c-7a4b-8def-0123456789ab",
    "12345678-1234-4234-8234-123456789012",
    "0af7651916cd43dd8448eb211c80319c",
    "12345678901234567890123456789012",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-12345678901234567890123456789012-1234567890123456-01",
    "2026-01-15",
    "2026-01-15 2026-01-16",
    "2026-01-15/2026-01-22",
    "2026-01-15T12:30:45.123456+00:00",
    "2026-01-15T12:30:45+0000 2026-01-16T12:30:45-0500",
    "2026-01-15 12:30:45,123",
    "1768480245",
    "1768480245123",
    "1768480245123456",
    "1768480245123456789",
    "12.50",
    "1000000000000.00",
    "-12.50 EUR",
    "1 000 000",
    "10.0.0.1:8080",
    "thing.failed",
    "com.example.thing.made.v1",
    "rate:0af7651916cd43dd8448eb211c80319c0af7651916cd43dd8448eb211c80319c:60:20000000",
    "bearer",
    "the bearer",
    "/api/v1/things/{thing_id}",
    "a @ b",
    "1 + 1",
    "C++20",
    "http://localhost:8009/.well-known/jwks.json",
    "eyJ",
    "4111111111111112",  # its check digit is wrong
]


@pytest.mark.parametrize("harmless", HARMLESS)
def test_what_gives_nothing_away_is_left_alone(harmless: str):
    for text in (harmless, f"x {harmless}, y", f"({harmless})"):
        assert redact([text]) == [text]


@pytest.mark.parametrize(
    "key",
    ["message", "messageText", "MessageText", "PhoneNumber", "msisdn", "from_msisdn", "to", "customerPhone", "mobile",
     "recipient_email", "firstName", "access_token", "api-key", "webhook-signature", "webhook_secret", "body"],
)  # fmt: skip
def test_keys_of_texts_and_those_they_are_sent_to_are_telling(key: str):
    assert redact({key: "it"}) == {key: "[redacted]"}


@pytest.mark.parametrize("key", ["template_name", "tenant_name", "message_id", "key", "code", "subject_id", "segments"])
def test_keys_of_what_is_nobodys_are_not(key: str):
    assert redact({key: "it"}) == {key: "it"}


PARAMETERS = [
    *("secret", "token", "access_token", "key", "apiKey", "api_key", "email", "customerEmail", "phone", "phoneNumber"),
    *("phone_number", "msisdn", "name", "password", "to", "sig", "webhook-signature"),
]


@pytest.mark.parametrize("name", PARAMETERS)
def test_in_a_query_what_stands_under_a_telling_name_is_blanked(name: str):
    for before, after in (("", ""), ("page=2&", "&limit=5"), ("https://x.example/a?", "#top"), ("a?b=;", ";c=1"),
                          ("refused: http://localhost:1/in?", " (Cannot connect)"), ('"/in?', '"')):  # fmt: skip
        for value in ("hu-sh~1", "hu%20sh%2F", "tok=en==", ""):
            expected = f"{before}{name}=[redacted]{after}"
            assert redact(f"{before}{name}={value}{after}") == expected.replace("[redacted]#top", "[redacted]")


@pytest.mark.parametrize("name", ["to%6ben", "%74%6F%6B%65%6E", "user[token]", "user%5Btoken%5D", "secret[]"])
def test_a_name_that_is_spelled_otherwise_is_the_same_name(name: str):
    assert redact(f"?page=2&{name}=hush&limit=5") == f"?page=2&{name}=[redacted]&limit=5"


def test_in_a_url_that_stands_in_another_ones_query_it_is_blanked_too():
    assert "hush" not in redact("?next=https%3A%2F%2Fx.example%2Fa%3Fb%3D1%26token%3Dhush&page=2")
    assert redact("?next=a%3Ftoken%3Dhush&page=2") == "?next=a%3Ftoken%3D[redacted]&page=2"


@pytest.mark.parametrize(
    "text",
    [
        "?page=2&limit=5",
        "?a%6bey=1",
        "?tokens[0]=1",
        "a key=value",
        "secrets",
        "?tokenised=1",
        "x = 1; y == 2",
        "?monkey=1",
        "?=",
        "a&b;c?",
    ],
)
def test_what_is_no_telling_parameter_is_left_alone(text: str):
    assert redact(text) == text


@pytest.mark.parametrize(
    "value", [0, 1.5, True, None, date(2026, 1, 15), datetime(2026, 1, 15, tzinfo=UTC), UUID(int=7)]
)
def test_values_that_are_no_texts_stay_what_they_are(value: Any):
    assert redact({"value": value}) == {"value": value}


@dataclass
class Person:
    contact: str


@pytest.mark.parametrize(
    "value", [Person("ada@example.org"), ValueError("ada@example.org"), b"ada@example.org", {"ada@example.org"}]
)
def test_what_will_be_written_as_text_is_looked_at_as_text(value: Any):
    assert "ada" not in str(redact({"value": value}))
    assert redact(Decimal("12.50")) == "12.50"


@pytest.mark.parametrize(
    "part",
    [
        "a",
        "eyJ",
        "a.",
        "a@",
        "a@b.",
        "a@b-",
        "1 ",
        "4-",
        "%40",
        "+1",
        "bearer ",
        "tok_",
        "eyJaaaaaaaa.",
        "a%40a",
        "?",
        "?a",
        "&a=",
        "?token=",
        "%3Ftoken%3Da",
        "&token=a",
    ],
)
def test_no_text_takes_long_to_look_through(part: str):
    text = part * (200_000 // len(part))
    began = time.perf_counter()

    redact(text)

    assert time.perf_counter() - began < 2  # a second reading of the same would take minutes


# ------------------------------------------------------------------------------------------------- as it is written


class Lines:
    """Where the configured processors' output goes."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def msg(self, line: bytes) -> None:
        self.written.append(line)

    info = error = msg

    @property
    def last(self) -> dict[str, Any]:
        return json.loads(self.written[-1])


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def log(lines: Lines) -> Iterator[Any]:
    """A logger as a service's process has it."""
    before = structlog.get_config()
    telemetry._setup_logs("test", "INFO")
    processors = structlog.get_config()["processors"]
    structlog.configure(**before)
    return structlog.wrap_logger(
        lines, processors=processors, wrapper_class=structlog.make_filtering_bound_logger("INFO")
    )


@pytest.mark.parametrize("telling", TELLING)
def test_an_exceptions_texts_are_written_without_what_gives_itself_away(lines: Lines, log: Any, telling: str):
    for place in PLACES:
        try:
            fail(place.format(telling), because=telling)
        except ValueError:
            log.exception("thing.failed")

        assert telling not in lines.written[-1].decode()
        assert telling not in str(lines.last)
        assert [one["exc_type"] for one in lines.last["exception"]] == ["ValueError", "KeyError"]
        assert lines.last["exception"][0]["frames"][-1]["name"] == "fail"


def fail(text: str, *, because: str) -> None:
    try:
        {}[because]
    except KeyError as error:
        error.add_note(f"while sending to {because}")
        raise ValueError(text) from error


def test_local_variables_are_not_written(lines: Lines, log: Any):
    hidden = "a-local-variable"
    try:
        fail(str(len(hidden)), because="nothing")
    except ValueError:
        log.exception("thing.failed")

    assert hidden not in lines.written[-1].decode()


def test_a_record_keeps_its_name_its_ids_and_its_figures(lines: Lines, log: Any):
    thing_id = "01932c07-209c-7a4b-8def-0123456789ab"
    with continued("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
        log.info("thing.made", thing_id=thing_id, amount=Decimal("12.50"), count=3, tenant="north")

    told = lines.last
    assert (told["event"], told["thing_id"], told["amount"], told["count"]) == ("thing.made", thing_id, "12.50", 3)
    assert (told["service"], told["level"], told["tenant"]) == ("test", "info", "north")
    assert (told["trace_id"], told["span_id"]) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert datetime.fromisoformat(told["timestamp"]).tzinfo is not None


def test_a_record_is_one_line_whatever_it_says(lines: Lines, log: Any):
    log.info('thing.made\n{"event": "forged"}', note='a\r\n{"event": "forged"}\u2028')

    assert b"\n" not in lines.written[-1]
    assert lines.last["event"].startswith("thing.made")


def test_what_is_bound_for_a_while_is_redacted_too(lines: Lines, log: Any):
    with structlog.contextvars.bound_contextvars(caller="ada@example.org", email="x"):
        log.info("looked")

    assert (lines.last["caller"], lines.last["email"]) == ("[redacted]", "[redacted]")


# -------------------------------------------------------------------------------------------------------------- spans


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(spans: InMemorySpanExporter) -> Iterator[TracerProvider]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(RedactingExporter(spans)))
    yield provider
    provider.shutdown()


@pytest.mark.parametrize("name", ["url.query", "url.full", "http.url", "http.target"])
@pytest.mark.parametrize("late", [False, True])
def test_a_url_of_a_span_tells_no_secret_whenever_it_was_set(
    spans: InMemorySpanExporter, tracing: TracerProvider, name: str, *, late: bool
):
    url = "secret=hush&page=2" if name == "url.query" else "https://x.example/in?secret=hush&page=2"
    with tracing.get_tracer("test").start_as_current_span("GET", attributes={} if late else {name: url}) as span:
        if late:
            span.set_attribute(name, url)

    [told] = spans.get_finished_spans()
    assert dict(told.attributes or {}) == {name: url.replace("hush", "[redacted]")}


def test_an_exception_of_a_span_tells_nobodys_address(spans: InMemorySpanExporter, tracing: TracerProvider):
    with pytest.raises(ValueError, match="refused"), tracing.get_tracer("test").start_as_current_span("send"):
        raise ValueError("refused: ada@example.org at http://localhost:1/in?token=hush")

    [told] = spans.get_finished_spans()
    assert "hush" not in told.to_json()
    assert "ada" not in told.to_json()
    assert [event.name for event in told.events] == ["exception"]
    assert (told.events[0].attributes or {})["exception.type"] == "ValueError"


def test_a_span_keeps_all_else(spans: InMemorySpanExporter, tracing: TracerProvider):
    plain = InMemorySpanExporter()
    tracing.add_span_processor(SimpleSpanProcessor(plain))
    with tracing.get_tracer("test", "1").start_as_current_span("outer") as outer:
        outer.add_event("tried", {"attempt": 2})
        with tracing.get_tracer("test", "1").start_as_current_span("inner", attributes={"count": 3, "ids": ["a", "b"]}):
            pass

    assert [one.to_json() for one in spans.get_finished_spans()] == [
        one.to_json() for one in plain.get_finished_spans()
    ]


async def test_the_span_of_a_request_tells_no_secret_of_its_query(spans: InMemorySpanExporter, tracing: TracerProvider):
    app = FastAPI(telemetry={"tracer_provider": tracing, "metrics": False, "logs": False, "operation_spans": False})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        await client.get("/in?secret=hush&phoneNumber=0711&page=2")

    [told] = spans.get_finished_spans()
    assert (told.attributes or {})["url.query"] == "secret=[redacted]&phoneNumber=[redacted]&page=2"


class Collector(BaseHTTPRequestHandler):
    taken: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        self.taken.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name there
        pass


@contextmanager
def collecting() -> Generator[tuple[str, list[tuple[str, bytes]]]]:
    taken: list[tuple[str, bytes]] = []
    server = HTTPServer(("127.0.0.1", 0), type("Collecting", (Collector,), {"taken": taken}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


EXPORTING = """
import structlog
from opentelemetry import trace
from chassis import telemetry

telemetry.setup("test")
with telemetry.tracer.start_as_current_span("GET", attributes={"url.query": "secret=hush&page=2"}):
    structlog.get_logger().info("looked", url="http://x.example/?secret=hush", message="hush")
trace.get_tracer_provider().shutdown()
"""


def test_a_process_exports_no_secret():
    with collecting() as (url, taken):
        said = subprocess.run(  # noqa: S603  our own
            [sys.executable, "-c", EXPORTING],
            env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": url},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout

    assert {path for path, _ in taken} >= {"/v1/traces", "/v1/logs"}
    assert b"secret=[redacted]&page=2" in dict(taken)["/v1/traces"]
    assert not [path for path, body in taken if b"hush" in body]
    assert b"looked" in said
    assert b"hush" not in said
