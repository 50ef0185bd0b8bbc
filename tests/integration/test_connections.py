"""What arrives on one connection, byte by byte, at every service as it runs."""

import re

import httpx
import pytest
from brewery import ORDER, SERVICES, bearer, order_body
from orjson import dumps

from stack.connections import said
from stack.sidecars import Stack

SMUGGLED = b"GET /health/live HTTP/1.1\r\nHost: t\r\n\r\n"
OFFER = b"Host: t\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize("app_id", SERVICES)
async def test_the_body_of_a_request_that_offers_http2_is_no_request(stack: Stack, app_id: str) -> None:
    head = b"POST /nowhere HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (OFFER, len(SMUGGLED))
    last = b"GET /docs HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"

    answers = await said(port_of(stack, app_id), head, SMUGGLED + last)

    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"404", b"200"]


@pytest.mark.only_on("sqlite")
async def test_an_order_that_offers_http2_is_placed_and_a_key_with_a_blank_behind_it_is_the_same(stack: Stack) -> None:
    token = bearer(stack, "user")["Authorization"].encode()
    body = dumps(order_body())
    posted = b"POST /api/v1/orders HTTP/1.1\r\n%bAuthorization: %b\r\nContent-Type: application/json\r\n" % (
        OFFER,
        token,
    )
    sized = b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)

    first = await said(port_of(stack, ORDER), posted + b"Idempotency-Key: raw-1\r\n" + sized, body)
    again = await said(port_of(stack, ORDER), posted + b"Idempotency-Key: raw-1 \r\n" + sized, body)

    placed, replayed = [re.findall(rb"(?i)location: (\S+)", answer) for answer in (first, again)]
    assert len(placed) == 1
    assert replayed == placed
    assert b"idempotency-replayed: true" in again.lower()


def port_of(stack: Stack, app_id: str) -> int:
    return httpx.URL(stack.url(app_id)).port or 0
