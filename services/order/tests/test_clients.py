"""What order takes for payment's word, over a real connection: of an answer that was cut it takes nothing."""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from chassis.sidecar import Answer, Sidecar
from chassis.story import Unknown
from order.clients import Payments
from order.declines import DeclineCode
from order.domain import Money
from order.saga import Approved, Declined, OrderRef, Refunded
from stack.fake_sidecar import FakeSidecar

REF = OrderRef(tenant="default", tenant_name="Köln & Söhne", id="o-1")
TOTAL = Money.model_validate({"amount": "4.00", "currency": "USD"})
NOTHING = Unknown(reason="no answer from payment")
PAID = b'{"success":true,"paymentId":"p-1","status":"succeeded","transactionId":"tx-1","errorMessage":null}'
NO_FUNDS = b'{"success":false,"paymentId":"p-1","status":"declined","transactionId":null,"errorMessage":"expired_card"}'
CALLS: dict[str, Callable[[Payments], Awaitable[object]]] = {
    "charge": lambda payments: payments.charge(REF, total=TOTAL, method="card", card_token="tok_ok", settle_only=False),
    "refund": lambda payments: payments.refund(REF, payment_id="p-1", total=TOTAL),
}


def told(body: bytes, *, length: int | None = None) -> bytes:
    """A 200 as it goes over the wire; `length` is what it says of itself where that is not true."""
    size = len(body) if length is None else length
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (size, body)


def chunk(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(body), body)


@asynccontextmanager
async def payments_answering(answer: bytes) -> AsyncGenerator[Payments]:
    """Through a sidecar that hears every request out, says just this, and hangs up."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if sized := re.search(rb"content-length: (\d+)", head):
            await reader.readexactly(int(sized[1]))
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        sidecar = Sidecar(port=server.sockets[0].getsockname()[1], source="order-service")
        await sidecar.start()
        try:
            yield Payments(sidecar)
        finally:
            await sidecar.stop()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("whole", [PAID, NO_FUNDS])
async def test_an_answer_that_was_cut_or_is_empty_is_unknown(call: str, whole: bytes):
    cut = whole[:-1]
    for answer in (
        told(b""),
        told(cut),
        told(cut, length=len(whole)),
        told(whole[: len(whole) // 2]),
        told(b"\xff" + whole),
        chunk(b""),
        chunk(cut),
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200",
        b"",
    ):
        async with payments_answering(answer) as payments:
            assert await CALLS[call](payments) == NOTHING, answer


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"7",
        b'"succeeded"',
        b'["succeeded"]',
        b"{}",
        b'{"status": null}',
        b'{"status": true, "paymentId": "p-1", "transactionId": "tx-1"}',
        b'{"status": ["succeeded"], "paymentId": "p-1", "transactionId": "tx-1"}',
        b'{"status": {"status": "declined"}, "paymentId": "p-1"}',
        b'{"success": true, "paymentId": "p-1", "transactionId": "tx-1"}',
        b'[{"status": "succeeded", "paymentId": "p-1", "transactionId": "tx-1"}]',
    ],
)
async def test_json_of_another_shape_is_unknown(call: str, body: bytes):
    async with payments_answering(told(body)) as payments:
        assert await CALLS[call](payments) == NOTHING


@pytest.mark.parametrize(
    "body",
    [
        b'{"status": "succeeded", "paymentId": 1, "transactionId": "tx-1"}',
        b'{"status": "succeeded", "paymentId": "p-1", "transactionId": null}',
        b'{"status": "declined"}',
        b'{"status": "declined", "paymentId": "p-1"}',
        b'{"status": "declined", "paymentId": null, "errorMessage": "no funds"}',
        b'{"status": "failed", "paymentId": "p-1", "errorMessage": {"code": 7}}',
        b'{"status": "DECLINED", "paymentId": "p-1", "errorMessage": "no funds"}',
    ],
)
async def test_a_charges_outcome_that_lacks_what_belongs_to_it_is_unknown(body: bytes):
    async with payments_answering(told(body)) as payments:
        assert isinstance(await CALLS["charge"](payments), Unknown)


async def test_payment_is_told_whose_order_it_is():
    sidecar = FakeSidecar({"payment-service/process-payment": Answer(status=500, data=None)})

    await CALLS["charge"](Payments(sidecar))

    assert sidecar.headers == [{"X-Tenant-Id": "default", "X-Tenant-Name": "K%C3%B6ln%20%26%20S%C3%B6hne"}]


async def test_whole_answers_are_read():
    """Else the others would prove nothing."""
    async with payments_answering(told(PAID)) as payments:
        assert await CALLS["charge"](payments) == Approved(payment_id="p-1", transaction_id="tx-1")
        assert await CALLS["refund"](payments) == Refunded()
    async with payments_answering(told(NO_FUNDS)) as payments:
        assert await CALLS["charge"](payments) == Declined(
            status="declined", payment_id="p-1", code=DeclineCode.EXPIRED_CARD
        )
        assert await CALLS["refund"](payments) == Unknown(reason="refund declined")
