"""What one message and a bulk have in common as requests: channels, a template, and a key under which they may come
again."""

from typing import Annotated, Any, Self

import sqlalchemy as sa
from fastapi import Header, Request, Response
from pydantic import model_validator

from chassis.edge.auth import caller_of
from chassis.edge.routes import refused
from chassis.problems import Invalid
from chassis.wire import RequestBody, Wire
from notification.api.shapes import Name
from notification.domain import Chain, ChannelName
from notification.idempotency import Key
from notification.templates.catalog import Catalog, first_wordless

IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=255)]


class SendRequest(RequestBody):
    """`chain` are the channels that take over where `channel` can't reach the recipient."""

    channel: ChannelName
    chain: Chain = ()
    template_category: Name
    template_name: Name

    @model_validator(mode="after")
    def _no_channel_twice(self) -> Self:
        if self.channel in self.chain:
            raise Invalid("/chain", "It begins with another channel than the first.")
        return self

    async def require_template(self, catalog: Catalog, tenant: str) -> None:
        """Raises Invalid."""
        if not await catalog.knows(tenant, self.template_category, self.template_name):
            raise Invalid("/templateName", "There is no such template, or none of its versions is published.")

    def require_words(self, conn: sa.Connection, tenant: str) -> None:
        """Raises Invalid where no language of the template has anything for a channel: it could send nothing, ever."""
        channels = (self.channel, *self.chain)
        wordless = first_wordless(conn, tenant, self.template_category, self.template_name, channels)
        if wordless is not None:
            pointer = "/channel" if wordless is self.channel else "/chain"
            raise Invalid(pointer, f"The template has no words for {wordless}.")


async def key_of(request: Request, kind: str, idempotency_key: str | None) -> Key | None:
    if idempotency_key is None:
        return None
    return Key.of(kind, caller_of(request).subject, idempotency_key, await request.body())


def accepted(body: Wire, location: str, *, replayed: bool) -> Response:
    headers = {"Location": location}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(body.model_dump_json(by_alias=True), 202, headers=headers, media_type="application/json")


def answers(noun: str) -> dict[int | str, dict[str, Any]]:
    """`accepted`, and what is refused besides, for the contract."""
    headers = {
        "Location": {"description": f"The {noun}", "required": True, "schema": {"type": "string"}},
        "Idempotency-Replayed": {
            "description": "`true` when it stood there already",
            "schema": {"type": "string", "enum": ["true"]},
        },
    }
    written = {202: {"description": "Written down", "headers": headers}}
    return {**written, **refused({422: "invalid-request, idempotency-mismatch"})}
