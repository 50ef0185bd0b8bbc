"""The tries of one webhook, and what it is signed with."""

import asyncio
import base64
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from sandbox.courier import signature
from sandbox.ledger import Charge
from sandbox.webhooks import Manner, Webhooks

from .receiver import SECRETS, receiving


def test_the_published_vector_comes_out():
    """From the tests of github.com/standard-webhooks/standard-webhooks, `libraries/python/tests/test_webhooks.py`."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def a_charge() -> Charge:
    return Charge(
        transaction_id="txn_1",
        order_id="o-1",
        amount=Decimal("9.00"),
        currency="USD",
        declined=None,
        key="k",
        fingerprint="",
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def noting(pauses: list[float]) -> Callable[[float], Awaitable[bool]]:
    """A pause that is over at once."""

    async def pause(seconds: float) -> bool:
        pauses.append(seconds)
        await asyncio.sleep(0)
        return True

    return pause


@contextlib.asynccontextmanager
async def sending(
    url: str, pause: Callable[[float], Awaitable[bool]], chance: Callable[[float, float], float] = random.uniform
):
    webhooks = Webhooks(url=url, secrets=SECRETS, pause=pause, chance=chance)
    await webhooks.start()
    try:
        yield webhooks
    finally:
        await webhooks.stop()


async def finished(webhooks: Webhooks, tries: int) -> list[int | None]:
    async with asyncio.timeout(30):
        while len(webhooks.newest()[0]["statusCodes"]) < tries:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    return webhooks.newest()[0]["statusCodes"]


async def test_five_tries_with_growing_pauses_and_then_it_is_given_up(caplog: pytest.LogCaptureFixture):
    pauses: list[float] = []
    with receiving() as receiver:
        receiver.statuses = [500, 404, 302, 429, 503, 204]
        async with sending(receiver.url, noting(pauses)) as webhooks:
            await webhooks.announce("a", a_charge())
            assert await finished(webhooks, 5) == [500, 404, 302, 429, 503]

    assert pauses == [0, 1, 2, 4, 8]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "webhook.given-up"
    ]


async def test_a_receiver_that_is_not_there_is_tried_again():
    pauses: list[float] = []
    with receiving() as receiver:
        url = receiver.url
    async with sending(url, noting(pauses)) as webhooks:
        await webhooks.announce("a", a_charge())
        assert await finished(webhooks, 5) == [None] * 5


async def test_any_2xx_is_the_end():
    pauses: list[float] = []
    with receiving() as receiver:
        receiver.statuses = [299]
        async with sending(receiver.url, noting(pauses)) as webhooks:
            webhooks.manner = Manner(mode="on", delayMs=250)
            await webhooks.announce("a", a_charge())
            assert await finished(webhooks, 1) == [299]

    assert pauses == [0.25]


async def test_early_has_the_answer_wait_for_two_seconds_at_most():
    over: list[float] = []

    async def never_but(seconds: float) -> bool:
        """Only the wait for the delivery ends."""
        if seconds != 2:
            await asyncio.Event().wait()
        over.append(seconds)
        return True

    async with sending("http://nobody.invalid", never_but) as webhooks:
        webhooks.manner = Manner(mode="early", delayMs=60_000)
        async with asyncio.timeout(30):
            await webhooks.announce("a", a_charge())

    assert over == [2]


async def test_shuffled_holds_each_for_a_part_of_two_seconds():
    pauses: list[float] = []
    parts = iter([0.9, 0.1, 0.5])
    with receiving() as receiver:
        async with sending(
            receiver.url, noting(pauses), chance=lambda low, high: low + (high - low) * next(parts)
        ) as webhooks:
            webhooks.manner = Manner(mode="shuffled", delayMs=1_000)
            for _ in range(3):
                await webhooks.announce("a", a_charge())
            await asyncio.to_thread(receiver.await_taken, 3)

    assert pauses == pytest.approx([2.8, 1.2, 2.0])


def test_a_secret_that_is_no_base64_is_refused_at_the_start():
    with pytest.raises(ValueError, match=r"base64|padding|characters"):
        Webhooks(url="http://x", secrets={"a": "whsec_not base64"}, pause=asyncio.sleep)  # pyright: ignore[reportArgumentType]
