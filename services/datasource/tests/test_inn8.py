"""INN8 through the sidecar: its tokens and its pages."""

import asyncio
from datetime import UTC, datetime

import pytest

from chassis.sidecar import Answer
from datasource import access_token
from datasource.access_token import Token
from datasource.busy import Busy
from datasource.domain import CursorRefused, Entity, SourceFailed
from datasource.inn8 import Inn8
from datasource.settings import Source
from sandbox.inn8 import Manner

FAILED = Answer(status=500, data=None)


@pytest.fixture
def token(sidecar):
    return Token(sidecar, Source(tenant="default"), sidecar.secrets)


@pytest.fixture
def inn8(sidecar, token):
    return Inn8(sidecar, "inn8", token, page_rows=5)


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        at = 1000.0

    monkeypatch.setattr(access_token, "monotonic", lambda: Clock.at)
    return Clock


@pytest.mark.parametrize(("life", "used_for"), [(3600, 3300), (600, 540), (10, 9)])
async def test_a_token_is_used_until_five_minutes_or_a_tenth_of_its_life_before_its_end(
    sidecar, token, clock, life, used_for
):
    sidecar.inn8.behave(Manner.model_validate({"tokenSeconds": life}))
    first = await token.get()
    clock.at += used_for - 0.5
    assert (await token.get(), sidecar.granted) == (first, 1)
    clock.at += 1
    assert await token.get() != first
    assert sidecar.granted == 2


async def test_many_who_need_one_at_once_ask_once(sidecar, token):
    assert len(set(await asyncio.gather(*(token.get() for _ in range(20))))) == 1
    assert sidecar.granted == 1


async def test_a_token_that_is_refused_is_replaced_once_by_however_many(sidecar, inn8):
    await inn8.page(Entity.CLIENTS, since=None, cursor=None)
    sidecar.inn8.forget_tokens()

    pages = await asyncio.gather(*(inn8.page(Entity.CLIENTS, since=None, cursor=None) for _ in range(5)))

    assert [len(page.items) for page in pages] == [5] * 5
    assert sidecar.granted == 2


async def test_a_fresh_token_that_is_refused_is_a_clear_error(sidecar, inn8):
    sidecar.instead = [Answer(status=401, data=None)] * 2
    with pytest.raises(SourceFailed, match="refuses a token that it has just granted"):
        await inn8.page(Entity.CLIENTS, since=None, cursor=None)
    assert sidecar.granted == 2


async def test_a_wrong_secret_is_a_clear_error_that_does_not_say_it(sidecar, inn8):
    sidecar.secrets["inn8-client-secret"] = "guessed"
    with pytest.raises(SourceFailed, match=r"grants us no token \(401\)") as refused:
        await inn8.page(Entity.CLIENTS, since=None, cursor=None)
    assert "guessed" not in str(refused.value)


@pytest.mark.parametrize("data", [None, [], {}, {"access_token": ""}, {"access_token": "x", "expires_in": "soon"}])
async def test_a_token_that_can_not_be_read_is_a_clear_error(sidecar, inn8, monkeypatch, data):
    monkeypatch.setattr(sidecar, "_token", lambda _form: Answer(status=200, data=data))
    with pytest.raises(SourceFailed, match="token can't be read"):
        await inn8.page(Entity.CLIENTS, since=None, cursor=None)


async def test_pages_are_asked_for_by_time_and_cursor(sidecar, inn8):
    since = datetime(2025, 1, 1, tzinfo=UTC)
    first = await inn8.page(Entity.CLIENTS, since=since, cursor=None)
    await inn8.page(Entity.CLIENTS, since=since, cursor=first.next)

    assert [item["id"] for item in first.items] == [f"C-00000{number}" for number in range(1, 6)]
    assert sidecar.asked[0] == "clients?limit=5&updatedSince=2025-01-01T00%3A00%3A00%2B00%3A00"
    assert sidecar.asked[1].startswith(f"{sidecar.asked[0]}&cursor=")


GARBAGE = [None, "text", [], {}, {"items": []}, {"items": {}, "next": None}, {"items": [], "next": 5}]


@pytest.mark.parametrize("data", GARBAGE)
async def test_a_200_that_is_no_page_is_an_error(sidecar, inn8, data):
    sidecar.instead = [Answer(status=200, data=data)]
    with pytest.raises(SourceFailed, match="answer can't be read"):
        await inn8.page(Entity.CLIENTS, since=None, cursor=None)


async def test_what_else_may_come_back(sidecar, inn8):
    unreachable = {"errorCode": "ERR_DIRECT_INVOKE", "message": "connection refused"}
    for answer, error in (
        (Answer(status=500, data=unreachable), SourceFailed),
        (FAILED, SourceFailed),
        (Answer(status=403, data=None), SourceFailed),
        (Answer(status=429, data=None), Busy),
        (Answer(status=503, data=None), Busy),
        (Answer(status=200, data={"items": [], "next": "round"}), SourceFailed),
        (Answer(status=410, data=None), CursorRefused),
    ):
        sidecar.instead = [answer]
        with pytest.raises(error) as raised:
            await inn8.page(Entity.CLIENTS, since=None, cursor="round")
        assert type(raised.value) is error, answer
