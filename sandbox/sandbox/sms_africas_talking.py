"""How Africa's Talking speaks: `/version1/messaging`, forms in and JSON out, behind the header `apiKey`.

By https://developers.africastalking.com/docs/sms (sending, fetching, notifications) and its own clients. A number whose
last four digits are `0` and a code meets that code: …0403 is InvalidPhoneNumber, …0500 an InternalServerError.
"""

import logging
import re
from bisect import bisect_right
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from sandbox.receipts import Receipts, Report
from sandbox.records import Journal, stamp, utc_now
from sandbox.sms import FAILURES, NUMBER, Text, Texts, is_number, lateness, reported
from sandbox.vendor import answer, knows_key, read_form

log = logging.getLogger(__name__)

PATH = "/version1/messaging"

CODES = {
    100: "Processed",
    101: "Sent",
    102: "Queued",
    401: "RiskHold",
    402: "InvalidSenderId",
    403: "InvalidPhoneNumber",
    404: "UnsupportedNumberType",
    405: "InsufficientBalance",
    406: "UserInBlacklist",
    407: "CouldNotRoute",
    409: "DoNotDisturbRejection",
    500: "InternalServerError",
    501: "GatewayError",
    502: "RejectedByGateway",
}
_ACCEPTED = {100, 101, 102}

_DEFAULT_SENDER = "AFRICASTKNG"
_SHORT_CODE = "24242"
# A short code, a number or up to eleven characters; any beginning with this one is not registered.
_SENDER = re.compile(r"(?!invalid)(\+?\d{3,15}|[\w .-]{1,11})", re.ASCII | re.IGNORECASE)
_NETWORKS = {"+254": "63902", "+260": "64501", "+27": "65501", "+234": "62130"}
_NETWORK_OF_THE_SIMULATOR = "99999"
_FETCHED_AT_ONCE = 100


class InboundBody(BaseModel):
    """What somebody writes to us."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sender: str = Field(alias="from", pattern=NUMBER)
    text: str = Field(min_length=1, max_length=1600)
    to: str = Field(default=_SHORT_CODE, min_length=1, max_length=16)


class Inbound(BaseModel):
    """A text that came in, as it is on file."""

    model_config = ConfigDict(frozen=True)

    id: int
    link_id: str
    sender: str
    to: str
    text: str
    at: datetime

    def shown(self) -> dict[str, Any]:
        """As it is fetched."""
        return {
            "linkId": self.link_id,
            "text": self.text,
            "to": self.to,
            "id": self.id,
            "date": stamp(self.at),
            "from": self.sender,
        }


class AfricasTalking:
    """Texts out, reports of them, and texts in. `price` is that of one text, `KES 0.8000`. Without a key of its own it
    lets in whoever shows one."""

    def __init__(
        self,
        *,
        key: str,
        price: str,
        texts: Texts,
        inbound: Journal,
        receipts: Receipts,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if not key:
            log.warning("africas-talking.any-key", extra={"keys": {"set": "SANDBOX_AFRICAS_TALKING_KEY"}})
        self._key = key
        self._currency, _, self._price = price.partition(" ")
        self._texts = texts
        self._journal = inbound
        self._inbound = [Inbound.model_validate_json(line) for line in inbound.replay()]
        self._receipts = receipts
        self._clock = clock

    def routes(self) -> APIRouter:
        """Every call there is."""
        router = APIRouter()
        router.add_api_route(PATH, self.send, methods=["POST"])
        router.add_api_route(PATH, self.fetch, methods=["GET"])
        return router

    async def send(self, request: Request) -> Response:
        """`username`, `to` (numbers with commas between them), `message`, and maybe `from`: 201 whatever became of
        each. There are no idempotency keys here: what is asked twice is sent twice."""
        form = await read_form(request)
        if refused := self._turned_away(request):
            return refused
        if form is None:
            return PlainTextResponse("The request's Content-Type is not supported.", status_code=415)
        for field in ("username", "to", "message"):
            if not form.get(field):
                return PlainTextResponse(f"Request is missing required form field '{field}'", status_code=400)
        sender = form.get("from") or _DEFAULT_SENDER
        if not _SENDER.fullmatch(sender):
            return _sent("InvalidSenderId", [])
        return self._send(sender, form["message"], [number.strip() for number in form["to"].split(",")])

    async def fetch(self, request: Request) -> Response:
        """`?username&lastReceivedId`: up to 100 of the texts that came in after that one, oldest first."""
        if refused := self._turned_away(request):
            return refused
        if not request.query_params.get("username"):
            return PlainTextResponse("Request is missing required query parameter 'username'", status_code=404)
        last = request.query_params.get("lastReceivedId") or "0"
        if not (last.isascii() and last.isdecimal()):
            return PlainTextResponse("The query parameter 'lastReceivedId' was malformed", status_code=400)
        start = bisect_right(self._inbound, int(last[:20]), key=lambda came: came.id)
        later = self._inbound[start : start + _FETCHED_AT_ONCE]
        return answer(200, {"SMSMessageData": {"Messages": [came.shown() for came in later]}})

    def come_in(self, body: InboundBody) -> Inbound:
        """Somebody writes to us: it can be fetched, and is posted to who listens for it."""
        now = self._clock()
        # Ids grow, and none comes back after everything was forgotten: receivers know by them what they have had.
        number = max(int(now.timestamp() * 1_000_000), self._inbound[-1].id + 1 if self._inbound else 0)
        came = Inbound(link_id=str(uuid4()), text=body.text, to=body.to, id=number, at=now, sender=body.sender)
        self._journal.append(came.model_dump_json().encode())
        self._inbound.append(came)
        form = {name: str(value) for name, value in came.shown().items()}
        form |= {"networkCode": _network(body.sender)}
        self._receipts.tell("africas-talking-inbound", Report(type="inbound", key=form["id"], data=form))
        return came

    def forget(self) -> None:
        """Nobody ever wrote to us."""
        self._journal.forget()
        self._inbound.clear()

    def _turned_away(self, request: Request) -> Response | None:
        if knows_key(request.headers.get("apikey", ""), self._key):
            return None
        return PlainTextResponse("The supplied authentication is invalid", status_code=401)

    def _send(self, sender: str, message: str, numbers: list[str]) -> Response:
        codes = [_code(number) for number in numbers]
        texts = [
            Text(to=number, sender=sender, text=message, message_id=f"ATXid_{uuid4().hex}")
            if code in _ACCEPTED
            else Text(to=number, sender=sender, text=message, error=CODES[code])
            for number, code in zip(numbers, codes, strict=True)
        ]
        self._texts.keep("africas-talking", texts)
        for text in texts:
            self._report(text)
        accepted = sum(code in _ACCEPTED for code in codes)
        total = f"{self._currency} {accepted * Decimal(self._price):.4f}" if accepted else "0"
        shown = [self._recipient(text, code) for text, code in zip(texts, codes, strict=True)]
        return _sent(f"Sent to {accepted}/{len(numbers)} Total Cost: {total}", shown)

    def _recipient(self, text: Text, code: int) -> dict[str, Any]:
        # A text that was not taken has the id "None", in letters.
        return {
            "statusCode": code,
            "number": text.to,
            "status": text.error or "Success",
            "cost": f"{self._currency} {self._price}" if text.message_id else "0",
            "messageId": text.message_id or "None",
        }

    def _report(self, text: Text) -> None:
        if not text.message_id or not self._receipts.wanted("africas-talking"):
            return
        status, reason = FAILURES.get(text.to[-4:], ("Success", ""))
        interim, final = (_report_of(text, status, why) for status, why in (("Submitted", ""), (status, reason)))
        self._receipts.tell("africas-talking", *reported(text.to, interim, final), late=lateness(text.to))


def _report_of(text: Text, status: str, reason: str) -> Report:
    message_id = text.message_id or ""
    form = {"id": message_id, "status": status, "phoneNumber": text.to, "networkCode": _network(text.to)}
    return Report(type=status, key=message_id, data=form | ({"failureReason": reason} if reason else {}))


def _sent(message: str, recipients: list[dict[str, Any]]) -> Response:
    return answer(201, {"SMSMessageData": {"Message": message, "Recipients": recipients}})


def _code(number: str) -> int:
    if not is_number(number):
        return 403
    last = number[-4:]
    return int(last) if last[0] == "0" and int(last) in CODES else 101


def _network(number: str) -> str:
    return next((code for prefix, code in _NETWORKS.items() if number.startswith(prefix)), _NETWORK_OF_THE_SIMULATOR)
