"""Receipts in: who brings one proves it by a signature (Standard Webhooks) or, where a provider can do no more, by a
secret in its address. All of them are answered at once, repetitions and late ones too."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

import orjson
import structlog
from fastapi import Request, Response
from pydantic import Field, StringConstraints, ValidationError

from chassis.edge.routes import Routes, refused
from chassis.problems import FieldProblem, Problem, invalid
from chassis.webhooks import NotSigned
from chassis.wire import Wire
from notification.domain import Status
from notification.outcomes import Receipt
from notification.receipts.inbound import Receipts
from notification.recipients.addresses import NotAPhone, normalise
from notification.services import Services, services

log = structlog.get_logger()

AFRICAS_TALKING = "africas-talking"
INBOUND = "africas-talking-inbound"
LEGACY = "legacy"
SMTP = "smtp"

_MOST_FIELDS = 50
_TERSE = re.compile(r"[A-Za-z0-9 ._:-]{1,64}")
_MOST_DIGITS = 6  # of a code such as 550 5.1.1: fewer than any phone number has

MessageId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
Word = Annotated[str, Field(max_length=64)]


class Report(Wire):
    """Africa's Talking's delivery report (https://developers.africastalking.com/docs/sms/notifications).

    Here and below, a reason is as long as its provider likes; of a long one nothing is kept.
    """

    id: MessageId
    status: Word
    failure_reason: str = ""


class Inbound(Wire):
    """A text message that somebody sent us. `text` is as long as its sender likes."""

    id: MessageId
    sender: Annotated[str, Field(alias="from", max_length=64)]
    text: str = ""


class LegacyData(Wire):
    transaction_id: MessageId
    status: Word
    error: str | None = None


class LegacyReport(Wire):
    type: Literal["sms.status"]
    data: LegacyData


class MailData(Wire):
    """`message_id` as in the e-mail's header, `<…@brewline>`; before the @ stands the notification's id."""

    message_id: MessageId
    kind: Literal["permanent", "transient"] | None = None
    code: Annotated[str | int | None, Field(union_mode="left_to_right")] = None


class MailReport(Wire):
    type: Literal["email.bounced", "email.delivered"]
    data: MailData


# What their words mean; None is not the last word, and changes nothing.
_AFRICAS_TALKING: Mapping[str, Status | None] = {
    "Sent": None,
    "Submitted": None,
    "Buffered": None,
    "Success": Status.DELIVERED,
    "Rejected": Status.FAILED,
    "Failed": Status.FAILED,
    "Expired": Status.FAILED,
    "AbsentSubscriber": Status.FAILED,
}
_LEGACY: Mapping[str, Status | None] = {
    "Queued": None,
    "Sent": None,
    "Delivered": Status.DELIVERED,
    "Failed": Status.FAILED,
}


_SECRET = {
    "name": "secret",
    "in": "query",
    "description": "Africa's Talking's, which signs nothing",
    "schema": {"type": "string"},
}

router = Routes(prefix="/api/v1", tags=["receipts"])


@router.post(
    "/receipts/{provider}",
    response_class=Response,
    responses={
        200: {"description": "Taken"},
        **refused(
            {
                401: "receipt-not-signed",
                404: "provider-not-found",
                422: "invalid-request",
                503: "database-unavailable",
            }
        ),
    },
    openapi_extra={"parameters": [_SECRET]},
)
async def take_receipt(provider: str, request: Request) -> Response:
    """A delivery report, a bounce or a text message, as the provider puts it."""
    if (taker := _TAKERS.get(provider)) is None:
        raise Problem(status=404, error_type="provider-not-found", title="No such provider")
    try:
        secret = request.query_params.get("secret", "")
        await taker(services(request), await request.body(), request.headers, secret)
    except NotSigned:
        raise Problem(
            status=401,
            error_type="receipt-not-signed",
            title="Not signed",
            detail="The receipt's signature or secret is missing or wrong, or it is more than five minutes old.",
        ) from None
    except ValidationError as wrong:
        raise invalid([_field(error["loc"], error["msg"]) for error in wrong.errors()]) from None
    except ValueError:
        raise invalid([FieldProblem(pointer="", detail="not what this provider sends")]) from None
    return Response()


async def _africas_talking_report(made: Services, body: bytes, _headers: Mapping[str, str], secret: str) -> None:
    made.signatures.require_secret(AFRICAS_TALKING, secret)
    report = Report.model_validate(_form(body))
    await _take(
        made.receipts,
        AFRICAS_TALKING,
        report.id,
        means=_AFRICAS_TALKING,
        word=report.status,
        reason=report.failure_reason,
    )


async def _africas_talking_inbound(made: Services, body: bytes, _headers: Mapping[str, str], secret: str) -> None:
    made.signatures.require_secret(AFRICAS_TALKING, secret)
    text = Inbound.model_validate(_form(body))
    if (phone := _phone(text.sender)) is not None:
        await made.receipts.hear(provider=AFRICAS_TALKING, message_id=text.id, phone=phone, text=text.text)


async def _legacy_report(made: Services, body: bytes, headers: Mapping[str, str], _secret: str) -> None:
    made.signatures.require_signature(LEGACY, body, headers)
    report = LegacyReport.model_validate(orjson.loads(body)).data
    await _take(
        made.receipts, LEGACY, report.transaction_id, means=_LEGACY, word=report.status, reason=report.error or ""
    )


async def _smtp_report(made: Services, body: bytes, headers: Mapping[str, str], _secret: str) -> None:
    made.signatures.require_signature(SMTP, body, headers)
    report = MailReport.model_validate(orjson.loads(body))
    if (receipt := _of_mail(report)) is not None:
        await made.receipts.take(receipt)


async def _take(
    receipts: Receipts, provider: str, message_id: str, *, means: Mapping[str, Status | None], word: str, reason: str
) -> None:
    if word not in means:
        log.warning("receipt.unknown_status", provider=provider)
    elif (status := means[word]) is not None:
        error = "" if status is Status.DELIVERED else _terse(word, reason)
        await receipts.take(Receipt(provider=provider, message_id=message_id, status=status, error=error))


_TAKERS = {
    AFRICAS_TALKING: _africas_talking_report,
    INBOUND: _africas_talking_inbound,
    LEGACY: _legacy_report,
    SMTP: _smtp_report,
}


def _of_mail(report: MailReport) -> Receipt | None:
    """None for a transient bounce: the server that took the message will say more."""
    notification_id = report.data.message_id.strip("<>").partition("@")[0]
    if report.type == "email.delivered":
        return Receipt(provider=SMTP, message_id=notification_id, status=Status.DELIVERED)
    if report.data.kind != "permanent":
        return None
    error = _terse("bounced", str(report.data.code or ""))
    return Receipt(provider=SMTP, message_id=notification_id, status=Status.BOUNCED, error=error)


def _form(body: bytes) -> dict[str, Any]:
    return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))


def _phone(sender: str) -> str | None:
    """A + that was sent as it is arrives as a blank."""
    try:
        return normalise("+" + sender.strip().removeprefix("+"), None)
    except NotAPhone:
        return None


def _terse(word: str, reason: str) -> str:
    """A provider's reason is kept where it is a code, never where it could name somebody."""
    telling = not _TERSE.fullmatch(reason) or sum(char.isdigit() for char in reason) > _MOST_DIGITS
    return word if telling else f"{word}: {reason}"


def _field(location: tuple[int | str, ...], why: str) -> FieldProblem:
    return FieldProblem(pointer="".join(f"/{part}" for part in location), detail=why)
