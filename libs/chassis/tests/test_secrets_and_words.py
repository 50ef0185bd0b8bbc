"""Nothing secret is logged or kept in the clear, and the chassis knows no business."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import structlog
from cryptography.fernet import Fernet
from opentelemetry import trace

import chassis
from chassis import telemetry
from chassis.sealing import SealBroken, Sealer
from chassis.secrets import SecretIncomplete, read_secrets
from chassis.telemetry import continued, redact, trace_id, traceparent
from chassis.testing.fake_sidecar import FakeSidecar

# "in order", "in any order" and SQL's own words are sequence, and are allowed.
SEQUENCE = re.compile(r"order_by|ORDER BY|\b(in|in its|in any|the same|so that .*? can) order\b|in order to")
NOUNS = re.compile(
    r"(?<![a-z])(orders?|payments?|charge[sd]?|refund(s|ed)?|customers?|money|stock|coffee)(?![a-z])", re.IGNORECASE
)


@pytest.mark.parametrize(
    ("value", "redacted"),
    [
        ({"cardToken": "tok_1", "amount": "9.00"}, {"cardToken": "[redacted]", "amount": "9.00"}),
        (
            {"card_token": "x", "PHONE": "y", "E-mail": "z"},
            {"card_token": "[redacted]", "PHONE": "[redacted]", "E-mail": "z"},
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
    ["a", "eyJ", "a.", "a@", "a@b.", "a@b-", "1 ", "4-", "%40", "+1", "bearer ", "tok_", "eyJaaaaaaaa.", "a%40a"],
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


def key() -> str:
    return Fernet.generate_key().decode()


def unlocked(*keys: str) -> Sealer:
    sealer = Sealer()
    sealer.unlock(",".join(keys))
    return sealer


def test_what_is_sealed_opens_again_and_reads_like_nothing():
    sealer = unlocked(key())

    sealed = sealer.seal("tok_ok ☕")

    assert "tok_ok" not in sealed
    assert sealer.open(sealed) == "tok_ok ☕"
    assert sealer.seal("tok_ok ☕") != sealed


def test_keys_rotate_the_first_seals_and_every_one_opens():
    old, new = key(), key()
    sealed_before = unlocked(old).seal("a")

    rotated = unlocked(new, old)

    assert rotated.open(sealed_before) == "a"
    assert unlocked(new).open(rotated.seal("b")) == "b"


@pytest.mark.parametrize("text", ["", "nonsense", "gAAAAA=="])
def test_what_was_sealed_with_another_key_or_changed_does_not_open(text: str):
    with pytest.raises(SealBroken):
        unlocked(key()).open(text or unlocked(key()).seal("a"))


def test_nothing_is_sealed_before_there_is_a_key():
    with pytest.raises(RuntimeError):
        Sealer().seal("a")


def test_work_that_is_continued_belongs_to_the_stored_trace():
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    with continued(parent):
        assert trace_id() == "0af7651916cd43dd8448eb211c80319c"
        assert traceparent() == parent
    with continued(""):
        assert traceparent() == ""
    assert not trace.get_current_span().get_span_context().is_valid


def words(line: str) -> str:
    """A line without sequences, its identifiers taken apart: OrderStore is Order_Store."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", SEQUENCE.sub("", line))


def test_no_business_noun_is_in_the_chassis():
    source = Path(chassis.__file__).parent
    found = [
        f"{file.relative_to(source)}:{number}: {line.strip()}"
        for file in sorted(source.rglob("*.py"))
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if NOUNS.search(words(line))
    ]

    assert found == []


@pytest.mark.parametrize("line", ["class OrderStore:", "def refund(x):", "payment_id = 1", "the customer's", "# money"])
def test_the_search_for_business_nouns_finds_them(line: str):
    assert NOUNS.search(words(line))


async def test_a_secret_that_lacks_what_a_service_needs_is_named_and_the_value_of_none_is_told():
    sidecar = FakeSidecar()
    sidecar.secrets = {"one": "its-value", "empty": ""}

    with pytest.raises(SecretIncomplete) as refused:
        await read_secrets(sidecar, store="secrets", name="a-service", needs=("one", "two", "empty"))

    assert "a-service" in str(refused.value)
    assert "two, empty" in str(refused.value)
    assert "its-value" not in str(refused.value)


async def test_secrets_are_waited_for_until_the_sidecar_is_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("chassis.secrets._AGAIN_SECONDS", 0)
    sidecar = FakeSidecar()
    sidecar.alive = False
    reading = asyncio.create_task(read_secrets(sidecar, store="secrets", name="a-service", needs=("seal-keys",)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not reading.done()

    sidecar.alive = True

    assert set(await reading) == {"seal-keys"}
