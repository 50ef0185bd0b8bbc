"""The push provider: `/api/v1/notification`."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal
from uuid import uuid4

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from sandbox.lists import Listed
from sandbox.records import Journal, utc_now
from sandbox.vendor import answer, read, read_key, refusal

PATH = "/api/v1/notification"


class PushBody(BaseModel):
    """One notification to a customer's devices."""

    model_config = ConfigDict(frozen=True)

    type: Literal["order_status"]
    order_id: str = Field(alias="orderId", min_length=1, max_length=255)
    status: str = Field(min_length=1, max_length=64)
    customer_email: str = Field(alias="customerEmail", max_length=320, pattern="^[^@\\s]+@[^@\\s]+$")


class Delivered(BaseModel):
    """A notification that was accepted, as `GET /sandbox/push` shows it and as it is on file."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, serialize_by_alias=True)

    id: str
    type: str
    order_id: str = Field(alias="orderId")
    status: str
    customer_email: str = Field(alias="customerEmail")
    key: str | None = Field(alias="idempotencyKey")
    at: datetime

    def same_as(self, body: PushBody) -> bool:
        """Whether `body` asks for this very notification."""
        mine = (self.type, self.order_id, self.status, self.customer_email)
        return mine == (body.type, body.order_id, body.status, body.customer_email)


class PushProvider:
    """The provider's API and what it has delivered: `listed`, by order and by customer."""

    def __init__(self, *, journal: Journal, key_ttl: timedelta, clock: Callable[[], datetime] = utc_now) -> None:
        self._journal = journal
        self._key_ttl = key_ttl
        self._clock = clock
        self._keys: dict[str, Delivered] = {}
        self.listed = Listed()
        for line in journal.replay():
            self._enter(Delivered.model_validate_json(line))

    def routes(self) -> APIRouter:
        """Every call the provider offers."""
        router = APIRouter()
        router.add_api_route(PATH, self.deliver, methods=["POST"])
        return router

    async def deliver(self, request: Request) -> Response:
        """Accepts a notification, once per key if there is one."""
        body, key = await read(request, PushBody), read_key(request)
        if isinstance(body, Response):
            return body
        if isinstance(key, Response):
            return key
        known = self._keys.get(key) if key else None
        if known is None or self._clock() - known.at >= self._key_ttl:
            known = self._accept(body, key)
        elif not known.same_as(body):
            return refusal(422, "idempotency_key_reused", "This key was used with another body.")
        return answer(202, {"id": known.id})

    def forget(self) -> None:
        """Nothing was ever delivered."""
        self._journal.forget()
        self._keys.clear()
        self.listed.forget()

    def _accept(self, body: PushBody, key: str | None) -> Delivered:
        delivered = Delivered(id=f"push_{uuid4().hex}", **body.model_dump(), idempotencyKey=key, at=self._clock())
        self._journal.append(delivered.model_dump_json().encode())
        self._enter(delivered)
        return delivered

    def _enter(self, delivered: Delivered) -> None:
        self.listed.add(delivered.model_dump(mode="json"), delivered.order_id, delivered.customer_email)
        if delivered.key:
            self._keys[delivered.key] = delivered
