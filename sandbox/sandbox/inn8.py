"""INN8, where clients and their portfolios are kept: four lists behind OAuth 2.0, as contracts/inn8.json has them."""

import base64
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from secrets import token_urlsafe
from typing import Literal, NamedTuple

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from sandbox.inn8_rows import ENTITIES, ROWS, Entity, Records, Row, changed, made
from sandbox.records import stamp, utc_now
from sandbox.vendor import answer, knows_key, refusal

PATHS = tuple(f"/{entity}" for entity in ENTITIES)
SCOPES = frozenset({"api.read", "api.write"})
LARGEST_PAGE = 500


class Limit(BaseModel):
    """So many calls in so many seconds; what is over it is told when to come again, in seconds or by a date."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)

    calls: int = Field(ge=1)
    seconds: float = Field(gt=0)
    retry_after: Literal["seconds", "date"] = Field(default="seconds", alias="retryAfter")


class Manner(BaseModel):
    """How INN8 behaves. `rows` is how many of each entity are made anew from `seed`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)

    rows: dict[Entity, int] = {}
    seed: int = 8
    token_seconds: int = Field(default=3600, alias="tokenSeconds", ge=1)
    limit: Limit | None = None


class _Token(NamedTuple):
    scopes: frozenset[str]
    ends: float


class Inn8:
    """Rows are made when the first is asked for: most who start a sandbox ask for none."""

    def __init__(self, *, secret: str, manner: Manner) -> None:
        self._secret = secret
        self._usual = manner
        self.forget()

    def routes(self) -> APIRouter:
        """The lists, each under its own name."""
        router = APIRouter()
        for entity in ENTITIES:
            router.add_api_route(f"/{entity}", partial(self.listing, entity), methods=["GET"])
        return router

    # --- tokens, by `sandbox.oauth` ---

    def grant(self, secret: str, scopes: frozenset[str]) -> Response | None:
        """A token for who knows the secret; None for who doesn't."""
        if not knows_key(secret, self._secret):
            return None
        token, seconds = token_urlsafe(24), self.manner.token_seconds
        self._tokens[token] = _Token(scopes=scopes & SCOPES, ends=time.monotonic() + seconds)
        granted = {"access_token": token, "token_type": "Bearer", "expires_in": seconds}
        return answer(200, granted | {"scope": " ".join(sorted(scopes & SCOPES))}, {"cache-control": "no-store"})

    # --- the lists ---

    async def listing(self, entity: str, request: Request) -> Response:
        """A page, oldest change first; `next` is the `cursor` of the following one."""
        if refused := self._let_in(request):
            return refused
        try:
            limit = int(request.query_params.get("limit", LARGEST_PAGE))
            since = _since(request.query_params.get("updatedSince"))
            after = _opened(request.query_params.get("cursor"))
        except ValueError:
            return refusal(400, "invalid_request", "limit, updatedSince or cursor can't be read.")
        page = self.records(entity).page(since=since, after=after, limit=min(max(limit, 1), LARGEST_PAGE))
        following = json.dumps(_sealed(page.last)).encode()
        return Response(b'{"items":[%b],"next":%b}' % (b",".join(page.rows), following), media_type="application/json")

    def _let_in(self, request: Request) -> Response | None:
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        token = self._tokens.get(shown)
        if scheme != "Bearer" or token is None or token.ends <= time.monotonic():
            refused = refusal(401, "invalid_token", "The token is missing, unknown or has expired.")
            refused.headers["www-authenticate"] = 'Bearer error="invalid_token"'
            return refused
        if "api.read" not in token.scopes:
            return refusal(403, "insufficient_scope", "The token was not granted api.read.")
        return self._limited(self.manner.limit) if self.manner.limit else None

    def _limited(self, limit: Limit) -> Response | None:
        at = time.monotonic()
        self._calls = [call for call in self._calls if call > at - limit.seconds]
        if len(self._calls) < limit.calls:
            self._calls.append(at)
            return None
        wait = self._calls[0] + limit.seconds - at
        refused = refusal(429, "rate_limited", "Too many requests.")
        refused.headers["retry-after"] = str(int(wait) + 1) if limit.retry_after == "seconds" else _date_in(wait)
        return refused

    # --- what the sandbox's controls do ---

    def records(self, entity: str) -> Records:
        if entity not in self._records:
            rows = made(entity, self._made[entity], counts=self._made, seed=self.manner.seed)
            self._records[entity] = Records(rows)
        return self._records[entity]

    def put(self, entity: str, row_id: str, members: Row) -> Row:
        """Changes a row, or makes one like the others."""
        records = self.records(entity)
        row = records.get(row_id) or made(entity, 1, counts=self._made, seed=0)[0] | {"id": row_id}
        row = changed(row, members | {"id": row_id})
        records.put(row)
        return row

    @property
    def _made(self) -> Mapping[str, int]:
        return {**ROWS, **self.manner.rows}

    def behave(self, manner: Manner) -> None:
        """From now on; what is left out is as usual. Another number of rows, or another seed, makes all rows anew."""
        told = {name: getattr(manner, name) for name in manner.model_fields_set}
        manner = self._usual.model_copy(update=told)
        if manner.rows != self.manner.rows or manner.seed != self.manner.seed:
            self._records.clear()
        self.manner = manner
        self._calls.clear()

    def forget_tokens(self) -> None:
        """Nobody's token is good any more, whatever was said of its life."""
        self._tokens.clear()

    def forget(self) -> None:
        """As it was at the beginning."""
        self.manner = self._usual
        self._records: dict[str, Records] = {}
        self._tokens: dict[str, _Token] = {}
        self._calls: list[float] = []

    def counts(self) -> Mapping[str, int]:
        return {entity: len(self.records(entity)) for entity in ENTITIES}


def _since(text: str | None) -> str:
    if not text:
        return ""
    at = datetime.fromisoformat(text)
    return stamp((at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC))


def _sealed(key: tuple[str, str] | None) -> str | None:
    return None if key is None else base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _opened(cursor: str | None) -> tuple[str, str] | None:
    if cursor is None:
        return None
    match json.loads(base64.urlsafe_b64decode(cursor)):
        case [str(at), str(row_id)]:
            return at, row_id
        case _:
            raise ValueError(cursor)


def _date_in(seconds: float) -> str:
    return format_datetime(utc_now() + timedelta(seconds=seconds + 1), usegmt=True)
