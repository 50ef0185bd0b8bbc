"""Africa's Talking: its form-encoded wire, as its own clients speak it.

`POST /version1/messaging` has one text for many numbers and no idempotency key: a request that is repeated because its
answer was lost, by the sidecar's declared retries or by ours, is a second message. At least once.
Codes: https://developers.africastalking.com/docs/sms/sending/bulk
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from chassis.sidecar import Answer, Sidecar
from notification.channels.sms.providers import wire
from notification.channels.sms.providers.wire import (
    Accepted,
    AccountError,
    Cost,
    NotAccepted,
    NotTaken,
    OnHold,
    Rejected,
    SmsResult,
    SmsStatus,
    Text,
    Unknown,
)

_ENDPOINT = "sms"
_PATH = "version1/messaging"
_AT_ONCE = 100  # numbers in one request, so that it is answered well within the declared time-out


def _unreachable(reason: str) -> Rejected:
    return Rejected(reason, bounced=True)


_ACCEPTED = frozenset({100, 101, 102})  # processed, sent, queued
_REFUSED: Mapping[int, tuple[str, Callable[[str], NotAccepted]]] = {
    401: ("RiskHold", OnHold),
    402: ("InvalidSenderId", AccountError),
    403: ("InvalidPhoneNumber", _unreachable),
    404: ("UnsupportedNumberType", _unreachable),
    405: ("InsufficientBalance", AccountError),
    406: ("UserInBlacklist", Rejected),
    407: ("CouldNotRoute", NotTaken),
    409: ("DoNotDisturbRejection", Rejected),
    500: ("InternalServerError", NotTaken),
    501: ("GatewayError", NotTaken),
    502: ("RejectedByGateway", NotTaken),
}
_CODES = {name.lower(): code for code, (name, _) in _REFUSED.items()}
_COST = re.compile(r"(?:([A-Z]{3}) )?(\d{1,12}(?:\.\d{1,12})?)")
_SOME_SENT = re.compile(r"Sent to [1-9]")


class AfricasTalking:
    name = "africas-talking"
    askable = False

    def __init__(self, sidecar: Sidecar, *, username: str) -> None:
        self._sidecar = sidecar
        self._username = username
        self._key = ""

    def unlock(self, key: str) -> None:
        self._key = key

    async def send(self, text: Text) -> SmsResult:
        [result] = await self._post([text])
        return result

    async def send_bulk(self, texts: Sequence[Text]) -> list[SmsResult]:
        """A result for each, in their order. Those of one text and sender share requests."""
        results: list[SmsResult] = [Unknown("not asked")] * len(texts)
        for positions in _requests(texts):
            answers = await self._post([texts[position] for position in positions])
            for position, result in zip(positions, answers, strict=True):
                results[position] = result
        return results

    async def status(self, message_id: str) -> SmsStatus:  # noqa: ARG002  there is nobody to ask
        """Always UNKNOWN: this wire has no look-up. What became of a message is told by its delivery reports."""
        return SmsStatus.UNKNOWN

    async def _post(self, texts: Sequence[Text]) -> list[SmsResult]:
        """`texts` are of one body and sender, and of different numbers."""
        if not self._key:
            raise RuntimeError("no key yet: `unlock` comes first")
        form = {"username": self._username, "to": ",".join(text.to for text in texts), "message": texts[0].body}
        if texts[0].sender:
            form["from"] = texts[0].sender
        headers = {"apiKey": self._key, "Accept": "application/json"}
        answer = await wire.ask(self._sidecar, _ENDPOINT, _PATH, headers=headers, form=form)
        return _read(answer, texts) if isinstance(answer, Answer) else [answer] * len(texts)


def _requests(texts: Sequence[Text]) -> list[list[int]]:
    """The positions that go together. A number occurs once in a request, or its answers couldn't be told apart."""
    seen: Counter[tuple[str, str, str]] = Counter()
    groups: dict[tuple[str, str, int], list[int]] = {}
    for position, text in enumerate(texts):
        same = (text.body, text.sender, text.to)
        groups.setdefault((text.body, text.sender, seen[same]), []).append(position)
        seen[same] += 1
    return [group[at : at + _AT_ONCE] for group in groups.values() for at in range(0, len(group), _AT_ONCE)]


def _read(answer: Answer, texts: Sequence[Text]) -> list[SmsResult]:
    match answer.data:
        case {"SMSMessageData": {"Recipients": [recipient]}} if len(texts) == 1:
            return [_result(recipient)]
        case {"SMSMessageData": {"Recipients": [_, *_] as recipients}}:
            return [_of(text, recipients) for text in texts]
        case {"SMSMessageData": {"Message": str(said)}}:
            return [_without_recipients(said, alone=len(texts) == 1)] * len(texts)
        case _:
            return [wire.without_words(answer)] * len(texts)


def _of(text: Text, recipients: Sequence[Any]) -> SmsResult:
    """Answers come in any order, and a number may come back in another form than it was sent in."""
    number = _digits(text.to)
    numbered = [(_digits(recipient["number"]), recipient) for recipient in recipients if _has_number(recipient)]
    same = [recipient for digits, recipient in numbered if digits == number]
    national = [recipient for digits, recipient in numbered if len(digits) >= 7 and number.endswith(digits)]
    found = same[:1] or national
    return _result(found[0]) if len(found) == 1 else Unknown("not in the answer")


def _has_number(recipient: Any) -> bool:
    return isinstance(recipient, dict) and "number" in recipient


def _digits(number: Any) -> str:
    return re.sub(r"\D", "", str(number)).lstrip("0")


def _result(recipient: Any) -> SmsResult:
    match recipient:
        case {"statusCode": int() | str() as status_code} if (code := _figure(status_code)) in _ACCEPTED:
            message_id = str(recipient.get("messageId") or "")
            return Accepted(
                message_id="" if message_id == "None" else message_id,
                cost=_cost(recipient.get("cost")),
                segments=_figure(recipient.get("messageParts")),
            )
        case {"statusCode": int() | str() as status_code} if (code := _figure(status_code)) in _REFUSED:
            return _refusal(code)
        case _:
            return Unknown("unreadable answer")


def _refusal(code: int) -> NotAccepted:
    name, kind = _REFUSED[code]
    return kind(f"{code} {name}")


def _without_recipients(words: str, *, alone: bool) -> NotAccepted:
    """No recipient: the words name why. They may hold a number, so that only those we know go on."""
    if _SOME_SENT.match(words):
        return Unknown("unreadable answer")
    code = _CODES.get(re.sub(r"\W", "", words).lower())
    refusal = NotTaken("no recipient") if code is None else _refusal(code)
    # What is said of a number can't be meant of every number.
    return refusal if alone or not isinstance(refusal, Rejected) else NotTaken("no recipient")


def _cost(cost: Any) -> Cost | None:
    """From `"KES 0.8000"`, of any currency, or `"0"`."""
    found = _COST.fullmatch(cost) if isinstance(cost, str) else None
    return Cost(currency=found[1] or "", amount=Decimal(found[2])) if found else None


def _figure(figure: Any) -> int:
    """A count or code, as a number or a text; 0 where there is none."""
    return int(figure) if re.fullmatch(r"\d{1,9}", str(figure), re.ASCII) else 0
