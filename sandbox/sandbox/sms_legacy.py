"""How the legacy SMS provider speaks: `/legacy/sms`, JSON behind the header `X-Api-Key`.

The seed names the fields of sending, in Pascal case; what the provider grew later, the look-up and its webhooks, is in
camel case. A number ending in 0403 is an InvalidNumber here as it is at Africa's Talking, and one ending in 0599 an
InternalError; the other codes of Africa's Talking are no concern of this provider, which takes over from it.
"""

import json
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, RootModel

from sandbox.receipts import Receipts, Report
from sandbox.sms import FAILURES, Text, Texts, is_number, lateness, reported
from sandbox.vendor import answer, fingerprint, knows_key, read, read_key

log = logging.getLogger(__name__)

PATH = "/legacy/sms"

_ERRORS = {"0403": "InvalidNumber", "0599": "InternalError"}
_CHARGED = 0.035
_SENT_AFTER = timedelta(seconds=0.1)
_DELIVERED_AFTER = timedelta(seconds=0.3)


class SmsBody(BaseModel):
    """One text."""

    model_config = ConfigDict(frozen=True)

    phone_number: str = Field(alias="PhoneNumber", min_length=1, max_length=32)
    message_text: str = Field(alias="MessageText", min_length=1, max_length=1600)
    sender: str = Field(alias="Sender", min_length=1, max_length=16)


class BulkBody(RootModel[Annotated[list[SmsBody], Field(min_length=1, max_length=1000)]]):
    """Many texts."""


class LegacySms:
    """The provider's API. Without a key of its own it lets in whoever shows one."""

    def __init__(self, *, key: str, texts: Texts, receipts: Receipts) -> None:
        if not key:
            log.warning("legacy-sms.any-key", extra={"keys": {"set": "SANDBOX_LEGACY_SMS_KEY"}})
        self._key = key
        self._texts = texts
        self._receipts = receipts

    def routes(self) -> APIRouter:
        """Every call the provider offers."""
        router = APIRouter()
        router.add_api_route(f"{PATH}/send", self.send, methods=["POST"])
        router.add_api_route(f"{PATH}/send-bulk", self.send_bulk, methods=["POST"])
        router.add_api_route(f"{PATH}/status", self.status, methods=["GET"])
        return router

    async def send(self, request: Request) -> Response:
        """Takes one text, once per key if there is one."""
        if not self._known(request):
            return _unauthorized()
        body = await read(request, SmsBody, _refuse)
        if isinstance(body, Response):
            return body
        sent = self._send(request, [body], "send")
        return sent if isinstance(sent, Response) else answer(200, _result(sent[0]))

    async def send_bulk(self, request: Request) -> Response:
        """Takes up to 1000, all under one key if there is one; the answers stand in their order."""
        if not self._known(request):
            return _unauthorized()
        body = await read(request, BulkBody, _refuse)
        if isinstance(body, Response):
            return body
        sent = self._send(request, body.root, "send-bulk")
        if isinstance(sent, Response):
            return sent
        return Response(json.dumps([_result(text) for text in sent]), media_type="application/json")

    async def status(self, request: Request) -> Response:
        """`?transactionId=`: how far a text has come."""
        if not self._known(request):
            return _unauthorized()
        transaction_id = request.query_params.get("transactionId", "")
        found = self._texts.found("legacy", transaction_id)
        if found is None:
            return _refuse(404, "not_found", "There is no such transaction.")
        return answer(200, {"transactionId": transaction_id, "status": status_after(*found)})

    def _known(self, request: Request) -> bool:
        return knows_key(request.headers.get("x-api-key", ""), self._key)

    def _send(self, request: Request, bodies: Sequence[SmsBody], call: str) -> Sequence[Text] | Response:
        key = read_key(request, _refuse)
        if isinstance(key, Response):
            return key
        seen = fingerprint(call, *(field for each in bodies for field in each.model_dump().values()))
        known = self._texts.under(key)
        if known is None:
            known = self._texts.keep("legacy", [_text(each) for each in bodies], key=key, fingerprint=seen)
            for text in known.texts:
                self._report(text)
        elif known.fingerprint != seen:
            return _refuse(422, "idempotency_key_reused", "This key was used with another body.")
        return known.texts

    def _report(self, text: Text) -> None:
        if not text.message_id or not self._receipts.wanted("legacy"):
            return
        final = _outcome(text)
        interim, last = (_report_of(text, status) for status in ("Sent", final))
        self._receipts.tell("legacy", *reported(text.to, interim, last), late=lateness(text.to))


def _text(body: SmsBody) -> Text:
    valid = is_number(body.phone_number)
    error = _ERRORS.get(body.phone_number[-4:]) if valid else "InvalidNumber"
    return Text(
        to=body.phone_number,
        sender=body.sender,
        text=body.message_text,
        message_id=None if error else f"LEG-{uuid4().hex}",
        error=error,
    )


def _result(text: Text) -> dict[str, Any]:
    return {
        "IsSuccess": text.error is None,
        "TransactionId": text.message_id,
        "ErrorDescription": text.error,
        "ChargedAmount": None if text.error else _CHARGED,
    }


def _report_of(text: Text, status: str) -> Report:
    transaction_id = text.message_id or ""
    data = {"transactionId": transaction_id, "status": status, "phoneNumber": text.to}
    reason = FAILURES[text.to[-4:]][1] if status == "Failed" else ""
    return Report(type="sms.status", key=transaction_id, data=data | ({"error": reason} if reason else {}))


def _outcome(text: Text) -> str:
    return "Failed" if text.to[-4:] in FAILURES else "Delivered"


def status_after(text: Text, age: timedelta) -> str:
    """How far a text has come that was accepted so long ago."""
    if age < _SENT_AFTER:
        return "Queued"
    return "Sent" if age < _DELIVERED_AFTER else _outcome(text)


def _unauthorized() -> Response:
    return _refuse(401, "unauthorized", "A valid key is required.")


def _refuse(status: int, code: str, message: str, *, param: str | None = None) -> Response:
    """Nothing was taken."""
    shown = {"IsSuccess": False, "TransactionId": None, "ErrorDescription": message, "ChargedAmount": None}
    return answer(status, shown | {"ErrorCode": code, "Field": param})
