"""Nothing secret is logged or kept in the clear, and the chassis knows no business."""

import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from opentelemetry import trace

import chassis
from chassis.sealing import SealBroken, Sealer
from chassis.telemetry import continued, redact, trace_id, traceparent

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


def key() -> str:
    return Fernet.generate_key().decode()


def test_what_is_sealed_opens_again_and_reads_like_nothing():
    sealer = Sealer([key()])

    sealed = sealer.seal("tok_ok ☕")

    assert "tok_ok" not in sealed
    assert sealer.open(sealed) == "tok_ok ☕"
    assert sealer.seal("tok_ok ☕") != sealed


def test_keys_rotate_the_first_seals_and_every_one_opens():
    old, new = key(), key()
    sealed_before = Sealer([old]).seal("a")

    rotated = Sealer([new, old])

    assert rotated.open(sealed_before) == "a"
    assert Sealer([new]).open(rotated.seal("b")) == "b"


@pytest.mark.parametrize("text", ["", "nonsense", "gAAAAA=="])
def test_what_was_sealed_with_another_key_or_changed_does_not_open(text: str):
    with pytest.raises(SealBroken):
        Sealer([key()]).open(text or Sealer([key()]).seal("a"))


def test_a_development_key_is_made_once_and_is_its_owners_alone(tmp_path: Path):
    file = tmp_path / "keys" / "test.key"

    sealed = Sealer.from_settings("", file).seal("a")

    assert Sealer.from_settings("", file).open(sealed) == "a"
    assert file.stat().st_mode & 0o077 == 0


def test_given_keys_are_used_and_no_file_is_made(tmp_path: Path):
    first, second = key(), key()

    sealed = Sealer.from_settings(f"{first},{second}", tmp_path / "none").seal("a")

    assert Sealer([first]).open(sealed) == "a"
    assert not (tmp_path / "none").exists()


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
