"""How an outside party's HTTP API speaks: its own error bodies, its own reading of a request."""

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from hmac import compare_digest
from typing import NoReturn, Protocol, TypeVar
from urllib.parse import parse_qsl

import orjson
from fastapi import Request, Response
from pydantic import BaseModel, ValidationError

_LONGEST_KEY = 255

T = TypeVar("T", bound=BaseModel)


class Refuse(Protocol):
    """Makes an error in a vendor's own shape; `param` is the field that was wrong."""

    def __call__(self, status: int, code: str, message: str, *, param: str | None = None) -> Response: ...


def answer(status: int, body: Mapping[str, object], headers: dict[str, str] | None = None) -> Response:
    """A JSON answer. A Decimal is a number in it, digit for digit."""
    return Response(
        orjson.dumps(body, default=_number), status_code=status, headers=headers, media_type="application/json"
    )


def refusal(status: int, code: str, message: str, *, param: str | None = None) -> Response:
    """An error in the shape payment vendors use; never with what the caller sent."""
    return answer(status, {"error": {"code": code, "message": message, "param": param}})


async def read(request: Request, model: type[T], refuse: Refuse = refusal) -> T | Response:
    """The request's body as `model`, or the refusal to send. Numbers are read as decimals, never as floats."""
    try:
        body = json.loads(await request.body(), parse_float=Decimal, parse_constant=_no_constants)
    except (ValueError, RecursionError):
        return refuse(400, "invalid_json", "The body is not JSON.")
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or None
        return refuse(422, "invalid_request", first["msg"], param=where)


async def read_form(request: Request) -> dict[str, str] | None:
    """The fields of a form, the last of several with one name; None when the body is no form."""
    body = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return None
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))


def knows_key(shown: str, key: str) -> bool:
    """Whether the header's value is the key: any is, where there is none."""
    # Header bytes come as Latin-1.
    return bool(shown) and compare_digest(shown.encode("latin-1"), key.encode() or shown.encode("latin-1"))


def read_key(request: Request, refuse: Refuse = refusal) -> str | Response | None:
    """The Idempotency-Key, None without one, or the refusal to send."""
    key = request.headers.get("idempotency-key")
    if key and len(key) > _LONGEST_KEY:
        return refuse(422, "invalid_request", f"A key has at most {_LONGEST_KEY} characters.", param="Idempotency-Key")
    return key or None


def fingerprint(*parts: str | None) -> str:
    """Tells two request bodies apart without keeping what was in them."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def plain(amount: Decimal) -> str:
    """An amount without the zeros and exponents that mean nothing: equal amounts read the same."""
    return f"{amount.normalize():f}"


def _number(value: object) -> orjson.Fragment:
    if not isinstance(value, Decimal):
        raise TypeError(type(value).__name__)
    return orjson.Fragment(f"{value:f}")


def _no_constants(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
