"""What an order is for both peers, whichever engine carries it from step to step: who asks, what it costs, and each
effect under its own key, so that a step that is taken again has its effect once.

The same outside world as ours: provider A by one HTTP call, the mail server by SMTP over a few kept connections, a
mail of the same text and HTML. Left out, because it isn't a durable engine's: stock, timeline, events for others,
the provider's webhook and the mail's receipt, preferences, rate limits, telemetry.
"""

import asyncio
import binascii
import json
import os
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import format_datetime
from typing import Annotated, Any, Literal, Self

import aiohttp
import jwt
import orjson
from aiosmtplib import SMTP
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rows import CONFIRM, DECLINE, NOTIFICATION, ORDER, PAYMENT, SENT, Rows, opened

Order = dict[str, Any]  # JSON: what an engine's journal keeps

_PRICES = {
    ("latte", "plain"): Decimal("4.00"),
    ("latte", "vanilla"): Decimal("4.50"),
    ("espresso", "single"): Decimal("2.50"),
    ("espresso", "double"): Decimal("3.20"),
}
_ISSUER, _AUDIENCE = "http://localhost:8009", "brewline"
_BELIEVED_SECONDS = 30.0  # as ours: checking a signature costs more than a whole request
_SMTP_CONNECTIONS = 4  # as ours
_REFUSED = {400, 401, 403, 404, 422}
_SENDER = "orders@brewline.example"


class Refused(Exception):
    """For good, with the HTTP status to answer."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(status, why)
        self.status, self.why = status, why


# --- what is asked for --------------------------------------------------------------------------------------------


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Customer(_Body):
    id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.@:-]+$")]
    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]
    phone: Annotated[str, Field(pattern=r"^\+[1-9]\d{6,14}$")] | None = None
    locale: Annotated[str, Field(max_length=35)] = "en"


class Item(_Body):
    sku: Annotated[str, Field(min_length=1, max_length=64)]
    variation: Annotated[str, Field(max_length=64)] | None = None
    quantity: Annotated[int, Field(strict=True, ge=1, le=1000)]


class Card(_Body):
    method: Literal["credit_card", "debit_card"] = "credit_card"
    token: Annotated[str, Field(min_length=1, max_length=255)]


class OrderRequest(_Body):
    customer: Customer
    items: Annotated[list[Item], Field(min_length=1, max_length=50)]
    location: Literal["in-store", "take-away", "delivery"] = "take-away"
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    payment: Card


def validated(body: Any) -> OrderRequest:
    try:
        return OrderRequest.model_validate(body)
    except ValidationError as error:
        raise Refused(422, str(error.errors(include_url=False, include_input=False))) from None


def priced(request: OrderRequest, order_id: str, caller: Mapping[str, Any]) -> Order:
    try:
        prices = [_PRICES[item.sku, item.variation or "plain"] for item in request.items]
    except KeyError as unknown:
        raise Refused(422, f"There is no {unknown}.") from None
    total = sum((price * item.quantity for price, item in zip(prices, request.items, strict=True)), Decimal())
    return {
        "id": order_id,
        "tenant": caller["tenant"],
        "owner": caller["sub"],
        "status": "pending_payment",
        "customer": request.customer.model_dump(),
        "items": [
            item.model_dump() | {"unitPrice": str(price)} for price, item in zip(prices, request.items, strict=True)
        ],
        "total": str(total),
        "currency": request.currency,
        "location": request.location,
        "method": request.payment.method,
        "token": request.payment.token,
        "at": datetime.now(UTC).isoformat(),
    }


def shown(order: Order) -> Order:
    return {name: value for name, value in order.items() if name not in {"owner", "token"}}


# --- the effects --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Work:
    """Everything outside of the engine, made once."""

    http: aiohttp.ClientSession
    rows: Rows
    tokens: "Tokens"
    mail: "Mail"
    nothing: str
    sandbox: str

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncGenerator[Self]:
        sandbox, port = os.environ["PEER_SANDBOX"], int(os.environ["PEER_SMTP_PORT"])
        rows = await opened(os.environ["PEER_ROWS"])
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            tokens, mail = Tokens(http, sandbox), Mail(port)
            nothing = os.environ["PEER_NOTHING"]
            yield cls(http=http, rows=rows, tokens=tokens, mail=mail, nothing=nothing, sandbox=sandbox)
            mail.close()
        await rows.close()

    async def do_nothing(self) -> None:
        async with self.http.post(self.nothing, json={}) as answer:
            answer.raise_for_status()
            await answer.read()

    async def place(self, order: Order) -> None:
        customer, items = json.dumps(order["customer"]), json.dumps(order["items"])
        values = order | {"customer_id": order["customer"]["id"], "customer": customer, "items": items}
        await self.rows.write(values, ORDER)

    async def charge(self, order: Order) -> str:
        """The transaction's id; empty where the card was declined, or the provider refused for good. Whatever is no
        answer is an exception: the engine asks again, under the same key."""
        body = {
            "orderId": order["id"],
            "amount": orjson.Fragment(order["total"]),  # a number on the wire, digit for digit
            "currency": order["currency"],
            "paymentMethod": order["method"],
            "cardToken": order["token"],
        }
        headers = {"Idempotency-Key": f"{order['id']}:charge", "Content-Type": "application/json"}
        url = f"{self.sandbox}/api/v1/payment"
        async with self.http.post(url, data=orjson.dumps(body), headers=headers) as answer:
            if answer.status in _REFUSED:
                return ""
            answer.raise_for_status()
            said = await answer.json()
        return said["transactionId"] if said["status"] == "approved" else ""

    async def confirm(self, order: Order, transaction_id: str) -> None:
        values = order | {"key": f"{order['id']}:charge", "transaction_id": transaction_id}
        await self.rows.write(values, PAYMENT, CONFIRM)

    async def decline(self, order: Order) -> None:
        await self.rows.write(order, DECLINE)

    async def enqueue(self, order: Order) -> None:
        customer, order_id = order["customer"], order["id"]
        about = {"id": f"{order_id}:confirmed", "order_id": order_id, "recipient_id": customer["id"]}
        await self.rows.write(order | about | {"address": customer["email"]}, NOTIFICATION)

    async def send(self, order: Order) -> None:
        """At least once, as SMTP has it; a second one has the same Message-ID."""
        await self.mail.send(order["customer"]["email"], composed(order))

    async def sent(self, order: Order) -> None:
        await self.rows.write({"id": f"{order['id']}:confirmed", "at": datetime.now(UTC).isoformat()}, SENT)


class Tokens:
    """Bearer tokens against the issuer's published keys. One that was checked is believed for a while."""

    def __init__(self, http: aiohttp.ClientSession, issuer: str) -> None:
        self._http, self._issuer = http, issuer
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._believed: dict[str, tuple[dict[str, Any], float]] = {}

    async def caller(self, header: str) -> dict[str, Any]:
        """The claims. Raises Refused."""
        claims, until = self._believed.get(header, ({}, 0.0))
        if time.time() < until:
            return claims
        scheme, _, token = header.partition(" ")
        try:
            key = await self._key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=["RS256", "ES256"],
                audience=_AUDIENCE,
                issuer=_ISSUER,
                options={"require": ["exp", "iss", "aud", "sub", "tenant"]},
            )
        except (jwt.PyJWTError, KeyError):
            raise Refused(401, "A bearer token is needed.") from None
        if scheme.lower() != "bearer":
            raise Refused(401, "A bearer token is needed.")
        if len(self._believed) >= 1024:
            self._believed.clear()
        self._believed[header] = (claims, min(float(claims["exp"]), time.time() + _BELIEVED_SECONDS))
        return claims

    async def _key(self, kid: str | None) -> jwt.PyJWK:
        if kid not in self._keys:
            async with self._http.get(f"{self._issuer}/.well-known/jwks.json") as answer:
                answer.raise_for_status()
                self._keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(await answer.json()).keys}
        return self._keys[kid]


# --- the mail -----------------------------------------------------------------------------------------------------

_TEXT = """Hello {name},

thank you. Your payment went through, and we are on it.

{lines}
  Total ${total}

Order {id}

Unsubscribe from these messages: http://localhost:8003/api/v1/unsubscribe?token={token}
"""
_HTML = """<!doctype html>
<html lang="en">
<body style="margin:0;padding:24px;background:#f6f3ef;font-family:Helvetica,Arial,sans-serif;color:#2b2118">
<div style="max-width:520px;margin:0 auto;padding:24px;background:#ffffff;border-radius:8px">
<h1 style="margin:0 0 16px;font-size:20px">Your order is confirmed</h1>
<p>Hello {name},</p>
<p>thank you. Your payment went through, and we are on it.</p>
<table style="width:100%;border-collapse:collapse">
{lines}
<tr><td style="padding:8px 0;border-top:1px solid #e6dfd7"><strong>Total ${total}</strong></td></tr>
</table>
<p style="margin:24px 0 0;font-size:12px;color:#8a7d70">Order {id}</p>
<p style="margin:8px 0 0;font-size:12px"><a style="color:#8a7d70"
href="http://localhost:8003/api/v1/unsubscribe?token={token}">Unsubscribe from these messages</a></p>
</div>
</body>
</html>
"""
_LINE = "  {quantity} x {sku} ({variation})"
_ROW = '<tr><td style="padding:4px 0">{quantity} &times; {sku} ({variation})</td></tr>'
_UNSUBSCRIBE = "x" * 160  # about as long as one of ours


def composed(order: Order) -> bytes:
    """Written out by hand, as ours is: `email.message` takes a millisecond of processor time for each."""
    values = {"name": order["customer"]["name"], "total": order["total"], "id": order["id"], "token": _UNSUBSCRIBE}
    parts = (("plain", _TEXT, _LINE), ("html", _HTML, _ROW))
    head = (
        f"From: Brewline <{_SENDER}>\r\nTo: {order['customer']['email']}\r\nSubject: Order Confirmation\r\n"
        f"Date: {format_datetime(datetime.now(UTC), usegmt=True)}\r\nMessage-ID: <{order['id']}:confirmed@brewline>\r\n"
        f'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="=_{order["id"]}"\r\n\r\n'
    )
    bodies = [
        f"--=_{order['id']}\r\nContent-Type: text/{kind}; charset=utf-8\r\n"
        f"Content-Transfer-Encoding: quoted-printable\r\n\r\n".encode()
        + binascii.b2a_qp(
            text.format(**values, lines="\n".join(line.format(**item) for item in order["items"]))
            .replace("\n", "\r\n")
            .encode(),
            istext=True,
        )
        + b"\r\n"
        for kind, text, line in parts
    ]
    return head.encode() + b"".join(bodies) + f"--=_{order['id']}--\r\n".encode()


class Mail:
    """A few connections, kept and used one message at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free = asyncio.Semaphore(_SMTP_CONNECTIONS)
        self._idle: list[SMTP] = []

    async def send(self, to: str, content: bytes) -> None:
        async with self._free:
            smtp = self._idle.pop() if self._idle else None
            if smtp is None or not smtp.is_connected:
                smtp = SMTP(hostname="127.0.0.1", port=self._port, local_hostname="brewline.example", start_tls=False)
                await smtp.connect()
            try:
                await smtp.sendmail(_SENDER, [to], content)
            except BaseException:
                smtp.close()
                raise
            self._idle.append(smtp)

    def close(self) -> None:
        for smtp in self._idle:
            smtp.close()
