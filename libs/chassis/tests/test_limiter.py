"""What is allowed is counted once for all replicas, and never more than is allowed is given."""

import asyncio
import random
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.app import create_app
from chassis.edge.auth import Access
from chassis.edge.limiter import Limiter, Verdict
from chassis.health import Health
from chassis.problems import Unavailable
from chassis.settings import ServiceSettings
from chassis.sidecar import SidecarDown
from stack.examples import examples
from stack.fake_sidecar import FakeSidecar
from stack.issuer import Issuer

ROUTE = "GET /things"
WHO = ("caller", "t-1", "u-1")


class Store(FakeSidecar):
    """A state store that takes its time, each call another one, and counts what it is asked."""

    def __init__(self, seed: int = 0, *, slowness: int = 5) -> None:
        super().__init__()
        self._random = random.Random(seed)  # noqa: S311  nothing secret
        self._slowness = slowness
        self.asked = 0
        self.ttls: set[int] = set()

    async def get_state(self, store: str, key: str) -> tuple[Any, str]:
        self.asked += 1
        await self._a_while()
        found = await super().get_state(store, key)
        await self._a_while()
        return found

    async def insert_state(self, store: str, key: str, value: Any, *, ttl_seconds: int) -> bool:
        self.ttls.add(ttl_seconds)
        await self._a_while()
        saved = await super().insert_state(store, key, value, ttl_seconds=ttl_seconds)
        await self._a_while()
        return saved

    async def update_state(self, store: str, key: str, value: Any, etag: str, *, ttl_seconds: int) -> bool:
        await self._a_while()
        saved = await super().update_state(store, key, value, etag, ttl_seconds=ttl_seconds)
        await self._a_while()
        return saved

    async def _a_while(self) -> None:
        for _ in range(self._random.randint(0, self._slowness)):
            await asyncio.sleep(0)


class Clock:
    def __init__(self) -> None:
        self.now = 1_200_000_000.0  # a window of a minute, and of an hour, begins

    def __call__(self) -> float:
        return self.now


def settings(rate: str, **given: Any) -> ServiceSettings:
    return ServiceSettings(
        app_port=1, dapr_http_port=1, app_api_token="app-token-of-the-tests", rate_limit=rate, **given
    )


def limiter(store: FakeSidecar, rate: str, clock: Clock | None = None, **given: Any) -> Limiter:
    clock = clock or Clock()
    return Limiter(sidecar=store, settings=settings(rate, **given), wall=clock, clock=clock)


async def allowed(one: Limiter, *who: str, route: str = ROUTE) -> bool:
    verdict = await one.admit(route, *(who or WHO))
    return verdict is None or verdict.allowed


async def admitted(one: Limiter, times: int, *who: str) -> int:
    return sum([await allowed(one, *who) for _ in range(times)])


# --------------------------------------------------------------------------------------------------------- the count


@examples(15)
@given(
    limit=st.integers(0, 70),
    requests=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
)
def test_replicas_together_never_admit_more_than_the_limit(limit: int, requests: list[int], seed: int):
    store = Store(seed)
    replicas = [limiter(store, f"{limit}/minute") for _ in requests]

    async def everybody() -> int:
        asking = [one for one, count in zip(replicas, requests, strict=True) for _ in range(count)]
        random.Random(seed).shuffle(asking)  # noqa: S311  nothing secret
        return sum(await asyncio.gather(*(allowed(one) for one in asking)))

    together = asyncio.run(everybody())

    block = max(1, limit // 20)
    assert together <= limit
    # What another replica reserved and did not use is all that can be lost.
    assert together >= min(sum(requests), limit - (len(requests) - 1) * block)


@pytest.mark.parametrize("limit", [1, 2, 19, 20, 21, 39, 40, 41, 100, 1000])
async def test_a_replica_alone_uses_every_permit_and_asks_seldom(limit: int):
    store = Store(slowness=0)
    one = limiter(store, f"{limit}/minute")

    assert await admitted(one, limit + 50) == limit
    assert store.asked <= 41


async def test_once_the_limit_is_reached_the_store_is_left_alone():
    store = Store()
    one = limiter(store, "10/minute")
    await admitted(one, 11)
    before = store.asked

    assert await admitted(one, 500) == 0
    assert store.asked == before


async def test_a_replica_that_comes_late_finds_nothing_left():
    store = Store()
    await admitted(limiter(store, "10/minute"), 10)

    assert await admitted(limiter(store, "10/minute"), 5) == 0


async def test_a_restart_brings_no_new_permits():
    store = Store()

    after_each = [await admitted(limiter(store, "10/minute"), 1) for _ in range(30)]

    assert sum(after_each) == 10


async def test_the_next_window_begins_anew():
    store, clock = Store(), Clock()
    one = limiter(store, "10/minute", clock)

    assert await admitted(one, 20) == 10
    clock.now += 59.9
    assert await admitted(one, 20) == 0
    clock.now += 0.1
    assert await admitted(one, 20) == 10
    clock.now += 600
    assert await admitted(one, 20) == 10


class Turning(Store):
    """Somebody's reservation takes until after the window has ended."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(slowness=0)
        self._clock = clock

    async def get_state(self, store: str, key: str) -> tuple[Any, str]:
        found = await super().get_state(store, key)
        await asyncio.sleep(0)
        self._clock.now += 60 if self.asked == 1 else 0
        return found


async def test_a_window_that_ends_while_many_wait_loses_none_of_the_next_ones_permits():
    clock = Clock()
    one = limiter(Turning(clock), "100/minute", clock)

    first = sum(await asyncio.gather(*(allowed(one) for _ in range(50))))

    assert first == 50
    assert await admitted(one, 100) >= 50


async def test_what_others_do_takes_nothing_away():
    one = limiter(Store(), "2/minute")
    everybody = [("caller", "t-1", "u-1"), ("caller", "t-1", "u-2"), ("caller", "t-2", "u-1")]
    everybody += [("address", "192.0.2.1"), ("address", "192.0.2.2"), ("address", "2001:db8::1")]

    assert [await admitted(one, 5, *who) for who in everybody] == [2] * 6
    assert [await allowed(one, route=route) for route in (ROUTE, "POST /things", "GET /things/{id}")] == [
        False,
        True,
        True,
    ]


async def test_a_name_with_slashes_is_nobody_else():
    one = limiter(Store(), "1/minute")
    names = [("caller", "t", "a/b"), ("caller", "t", "a"), ("caller", "t", "a/1/1/minute"), ("address", "t/a")]

    assert [await admitted(one, 3, *who) for who in names] == [1, 1, 1, 1]


async def test_a_route_may_have_another_limit_or_none():
    one = limiter(Store(), "2/minute", rate_limits={"POST /things": "5/minute", "GET /free": ""})

    async def of(route: str) -> int:
        return sum([await allowed(one, route=route) for _ in range(9)])

    assert (await of(ROUTE), await of("POST /things"), await of("GET /free")) == (2, 5, 9)
    assert await one.admit("GET /free", *WHO) is None


async def test_a_verdict_says_how_many_are_left_and_until_when():
    clock = Clock()
    one = limiter(Store(), "3/minute", clock)
    clock.now += 12.7

    first, _, third, fourth = [await one.admit(ROUTE, *WHO) for _ in range(4)]

    assert first == Verdict(allowed=True, limit=3, window=60, remaining=2, reset=48)
    assert (third.allowed, third.remaining) == (True, 0)  # type: ignore[union-attr]
    assert (fourth.allowed, fourth.remaining) == (False, 0)  # type: ignore[union-attr]


async def test_who_waits_as_long_as_told_is_let_in():
    clock = Clock()
    one = limiter(Store(), "1/minute", clock)
    for second in (0.0, 0.4, 30.6, 59.99):
        clock.now = 1_200_000_000.0 + 600 * second + second
        await one.admit(ROUTE, *WHO)
        refused = await one.admit(ROUTE, *WHO)
        assert refused is not None
        assert not refused.allowed

        clock.now += refused.reset

        assert await allowed(one)


# ---------------------------------------------------------------------------------------------------- what is stored


async def test_nothing_of_a_caller_stands_in_the_store():
    store = Store()
    one = limiter(store, "5/minute")

    for who in (("caller", "t-1", "ada@example.org"), ("address", "192.0.2.1"), ("caller", "t-1", "x||y\n" * 50)):
        await allowed(one, *who)

    assert len(store.state) == 3
    assert all(re.fullmatch(r"rate:[0-9a-f]{64}:60:20000000", key) for key in store.state)
    assert set(store.state.values()) == {1}
    assert store.ttls == {120}


async def test_memory_is_bounded_however_many_call_in_one_window_and_nobody_gets_more():
    one = limiter(FakeSidecar(), "3/hour")
    assert await admitted(one, 3) == 3

    for caller in range(16_000):
        await one.admit(ROUTE, "address", str(caller))

    (storage,) = [made.storage for _, made in one._limiters.values()]
    assert len(storage._blocks) <= 10_000  # type: ignore[attr-defined]
    assert not await allowed(one)


async def test_counters_of_past_windows_go_first():
    clock = Clock()
    one = limiter(FakeSidecar(), "3/minute", clock)
    for caller in range(10_000):
        await one.admit(ROUTE, "address", str(caller))
    clock.now += 60

    await one.admit(ROUTE, *WHO)

    (storage,) = [made.storage for _, made in one._limiters.values()]
    assert len(storage._blocks) == 1  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------- without the store


async def test_without_the_store_everybody_is_let_in_and_it_is_said_once(logs: list[Any]):
    store = Store()
    store.alive = False
    one = limiter(store, "1/minute")

    assert [await one.admit(ROUTE, *WHO) for _ in range(5)] == [None] * 5
    assert store.asked == 1
    assert [(log["event"], log["log_level"], log["failing"]) for log in logs] == [
        ("limiter.without_store", "warning", "open")
    ]


async def test_without_the_store_nobody_is_let_in_where_that_is_wished(logs: list[Any]):
    store = Store()
    store.alive = False
    one = limiter(store, "1/minute", rate_limit_without_store="closed")

    for _ in range(5):
        with pytest.raises(Unavailable, match="rate-limiter"):
            await one.admit(ROUTE, *WHO)
    assert store.asked == 1
    assert [log["failing"] for log in logs] == ["closed"]


@pytest.mark.parametrize("without", ["open", "closed"])
async def test_after_a_pause_the_store_is_asked_again_however_many_called_meanwhile(without: str):
    store, clock = Store(), Clock()
    one = limiter(store, "2/minute", clock, rate_limit_without_store=without)
    store.alive = False

    async def tried() -> Verdict | None:
        try:
            return await one.admit(ROUTE, *WHO)
        except Unavailable:
            return None

    assert await tried() is None
    store.alive = True
    for _ in range(19):
        clock.now += 0.1
        assert await tried() is None
    assert store.asked == 1

    clock.now += 0.2
    assert await tried() is not None


class Refusing(Store):
    """It can be read, and takes nothing."""

    async def insert_state(self, store: str, key: str, value: Any, *, ttl_seconds: int) -> bool:  # noqa: ARG002
        return False


class Garbled(Store):
    async def get_state(self, store: str, key: str) -> tuple[Any, str]:  # noqa: ARG002
        return "not a number", "1"


class Hanging(Store):
    async def get_state(self, store: str, key: str) -> tuple[Any, str]:  # noqa: ARG002
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize("kind", [Refusing, Garbled, Hanging])
async def test_a_store_that_is_of_no_use_is_like_none(kind: type[Store]):
    closed = limiter(kind(), "5/minute", rate_limit_without_store="closed")

    with pytest.raises(Unavailable, match="rate-limiter"):
        await closed.admit(ROUTE, *WHO)


class Torn(Store):
    """The connection breaks after the store has written."""

    torn = True

    async def insert_state(self, store: str, key: str, value: Any, *, ttl_seconds: int) -> bool:
        await super().insert_state(store, key, value, ttl_seconds=ttl_seconds)
        if self.torn:
            raise SidecarDown(store)
        return True


async def test_permits_whose_reservation_got_lost_are_not_given():
    store, clock = Torn(), Clock()
    one = limiter(store, "40/minute", clock)
    await one.admit(ROUTE, *WHO)
    clock.now += 3

    assert await admitted(one, 100) == 38


@pytest.mark.parametrize(
    "rate", ["5", "five/minute", "5/fortnight", "-1/minute", "5/second;100/hour", "5/minute, 6/hour"]
)
def test_a_limit_that_would_not_be_kept_cannot_be_configured(rate: str):
    with pytest.raises(ValueError, match="rate_limit"):
        settings(rate)
    with pytest.raises(ValueError, match="rate_limit"):
        settings("", rate_limits={ROUTE: rate})


# ------------------------------------------------------------------------------------------------------ as it is told


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer"))


@asynccontextmanager
async def calling(
    issuer: Issuer, rate: str, *, sidecar: FakeSidecar | None = None, address: str = "192.0.2.1", **given: Any
) -> AsyncGenerator[httpx.AsyncClient]:
    app = create_app(
        title="test",
        settings=settings(rate, auth_jwks_file=issuer.jwks_file, **given),
        sidecar=sidecar or FakeSidecar(),
        rules={ROUTE: Access.USER, "GET /open": Access.PUBLIC, "GET /signed": Access.SIGNED},
        health=Health({}),
        refusals={},
    )

    async def look() -> str:
        return "looked"

    for path in ("/things", "/open", "/signed"):
        app.get(path)(look)
    transport = httpx.ASGITransport(app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_an_answer_says_what_is_left_and_a_refusal_when_to_come_again(issuer: Issuer):
    async with calling(issuer, "2/hour") as client:
        first, _, refused = [await client.get("/things", headers=issuer.bearer()) for _ in range(3)]

    assert (first.status_code, refused.status_code) == (200, 429)
    assert first.headers["ratelimit-policy"] == '"default";q=2;w=3600'
    assert re.fullmatch(r'"default";r=1;t=\d+', first.headers["ratelimit"])
    assert "retry-after" not in first.headers
    assert refused.json()["errorType"] == "rate-limited"
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers.get_list("ratelimit-policy") == ['"default";q=2;w=3600']
    assert re.fullmatch(r'"default";r=0;t=\d+', refused.headers["ratelimit"])
    assert 0 < int(refused.headers["retry-after"]) <= 3600


async def test_callers_are_counted_by_tenant_and_subject(issuer: Issuer):
    async with calling(issuer, "1/hour") as client:
        callers = [issuer.bearer(sub=sub, tenant=tenant) for sub in ("a", "b") for tenant in ("x", "y")]
        first = [(await client.get("/things", headers=one)).status_code for one in callers]
        second = [(await client.get("/things", headers=one)).status_code for one in callers]

    assert (first, second) == ([200] * 4, [429] * 4)


async def test_another_token_of_the_same_caller_brings_nothing_new(issuer: Issuer):
    async with calling(issuer, "1/hour") as client:
        statuses = [(await client.get("/things", headers=issuer.bearer(jti=str(one)))).status_code for one in range(3)]

    assert statuses == [200, 429, 429]


@pytest.mark.parametrize("path", ["/open", "/signed"])
async def test_who_shows_no_token_is_counted_by_address(issuer: Issuer, path: str):
    sidecar = FakeSidecar()

    for address, statuses in (("192.0.2.1", [200, 429]), ("192.0.2.2", [200, 429]), ("192.0.2.1", [429, 429])):
        async with calling(issuer, "1/hour", sidecar=sidecar, address=address) as client:
            assert [(await client.get(path)).status_code for _ in range(2)] == statuses


async def test_an_address_is_not_believed_from_a_header(issuer: Issuer):
    async with calling(issuer, "1/hour") as client:
        spoofed = [{"X-Forwarded-For": f"192.0.2.{one}", "Forwarded": f"for=192.0.2.{one}"} for one in range(3)]
        statuses = [(await client.get("/open", headers=headers)).status_code for headers in spoofed]

    assert statuses == [200, 429, 429]


async def test_probes_are_not_counted(issuer: Issuer):
    async with calling(issuer, "1/hour") as client:
        answers = [await client.get("/health/live") for _ in range(5)]

    assert {answer.status_code for answer in answers} == {200}
    assert all("ratelimit" not in answer.headers for answer in answers)


async def test_without_the_store_a_closed_service_says_503_and_an_open_one_serves(issuer: Issuer):
    for without, status in (("open", 200), ("closed", 503)):
        sidecar = FakeSidecar()
        sidecar.alive = False
        async with calling(issuer, "5/hour", sidecar=sidecar, rate_limit_without_store=without) as client:
            answers = [await client.get("/things", headers=issuer.bearer()) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {status}
        assert all("ratelimit" not in answer.headers for answer in answers)
    assert answers[0].json()["errorType"] == "rate-limiter-unavailable"
    assert int(answers[0].headers["retry-after"]) > 0


async def test_a_limit_for_a_route_that_is_not_there_is_refused_at_start(issuer: Issuer):
    with pytest.raises(ValueError, match="GET /thinks"):
        async with calling(issuer, "5/hour", rate_limits={"GET /thinks": "1/hour"}):
            pass


async def test_whoever_lacks_the_role_is_counted_too(issuer: Issuer):
    async with calling(issuer, "2/hour") as client:
        nobody = issuer.bearer("none-of-ours")
        statuses = [(await client.get("/things", headers=nobody)).status_code for _ in range(4)]

    assert statuses == [403, 403, 429, 429]


async def test_whoever_has_no_good_token_is_counted_by_address_over_all_routes(issuer: Issuer):
    async with calling(issuer, "2/hour") as client:
        bad = {"Authorization": "Bearer nonsense"}
        statuses = [(await client.get("/things", headers=headers)).status_code for headers in ({}, bad, {}, bad)]
        served = await client.get("/things", headers=issuer.bearer())

    assert statuses == [401, 401, 429, 429]
    assert served.status_code == 200
