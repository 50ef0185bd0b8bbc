"""Nothing secret is kept in the clear, and the chassis knows no business."""

import asyncio
import re
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from opentelemetry import context, propagate, trace

import chassis
from chassis.sealing import SealBroken, Sealer
from chassis.secrets import SecretIncomplete, read_secrets
from chassis.telemetry import context_of, continued, trace_id, traceparent
from stack.fake_sidecar import FakeSidecar

# "in order", "in any order" and SQL's own words are sequence, and are allowed.
SEQUENCE = re.compile(r"order_by|ORDER BY|\b(in|in its|in any|the same|so that .*? can) order\b|in order to")
NOUNS = re.compile(
    r"(?<![a-z])(orders?|payments?|charge[sd]?|refund(s|ed)?|customers?|money|stock|coffee)(?![a-z])", re.IGNORECASE
)


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


def test_a_request_belongs_to_its_callers_trace_and_brings_nothing_else():
    first, second = (f"00-{digit * 32}-{digit * 16}-01".encode() for digit in "ab")
    headers = [(b"traceparent", first), (b"traceparent", second), (b"baggage", b"mail=ada@example.com")]
    token = context.attach(context_of(headers))
    carried: dict[str, str] = {}
    propagate.inject(carried)
    context.detach(token)

    assert list(carried) == ["traceparent"]
    assert carried["traceparent"].startswith(f"00-{'a' * 32}-")
    assert carried["traceparent"] != first.decode()


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
