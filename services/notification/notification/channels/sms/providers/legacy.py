"""The legacy provider: JSON, an idempotency key, and a look-up (through an endpoint of its own: no breaker).

Its fields are the seed's, in Pascal case; those of the look-up, which the seed doesn't have, are in camel case.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from chassis.problems import Unavailable as NobodyAnswers
from chassis.sidecar import Answer, Sidecar, Verdict
from notification.channels.sms.providers import wire
from notification.channels.sms.providers.wire import (
    Accepted,
    AccountError,
    Cost,
    NotAccepted,
    NotTaken,
    Rejected,
    SmsResult,
    SmsStatus,
    Text,
)

_ENDPOINT = "sms-legacy"
_LOOKUP = "sms-legacy-lookup"
_PATH = "legacy/sms"

# It has no codes, only words. They may hold a number: what goes on is ours.
_REFUSED: Sequence[tuple[re.Pattern[str], Callable[[], NotAccepted]]] = (
    (
        re.compile(r"invalid\W*(phone|number|recipient)", re.IGNORECASE),
        lambda: Rejected("invalid number", bounced=True),
    ),
    (re.compile(r"blacklist|opted[ -]?out|do not disturb", re.IGNORECASE), lambda: Rejected("opted out")),
    (re.compile(r"balance|credit|sender|account|api key", re.IGNORECASE), lambda: AccountError("account")),
)


class Legacy:
    """`currency` is the account's, in which it charges."""

    name = "legacy"
    askable = True

    def __init__(self, sidecar: Sidecar, *, currency: str) -> None:
        self._sidecar = sidecar
        self._currency = currency
        self._key = ""

    def unlock(self, key: str) -> None:
        self._key = key

    async def send(self, text: Text) -> SmsResult:
        answer = await self._post("send", _wire(text), key=text.id)
        return self._read(answer.data, answer) if isinstance(answer, Answer) else answer

    async def send_bulk(self, texts: Sequence[Text]) -> list[SmsResult]:
        """A result for each, in their order. The key is made of theirs: the same texts again are the same request."""
        if not texts:
            return []
        key = sha256("\n".join(text.id for text in texts).encode()).hexdigest()
        answer = await self._post("send-bulk", [_wire(text) for text in texts], key=key)
        if not isinstance(answer, Answer):
            return [answer] * len(texts)
        match answer.data:
            case [*rows] if len(rows) == len(texts):
                return [self._read(row, answer) for row in rows]
            case _:
                return [wire.without_words(answer)] * len(texts)

    async def status(self, message_id: str) -> SmsStatus:
        path = f"{_PATH}/status?transactionId={quote(message_id, safe='')}"
        try:
            answer = await self._sidecar.invoke(_LOOKUP, path, verb="GET", headers=self._headers())
        except NobodyAnswers:
            return SmsStatus.UNKNOWN
        match answer.data:
            case {"status": "Queued" | "Sent" | "Delivered" | "Failed" as status}:
                return SmsStatus(status.lower())
            case _:
                return SmsStatus.UNKNOWN

    async def _post(self, method: str, body: Any, *, key: str) -> Answer | wire.Unknown | wire.Unavailable:
        headers = self._headers() | {"Idempotency-Key": key}
        return await wire.ask(self._sidecar, _ENDPOINT, f"{_PATH}/{method}", headers=headers, body=body)

    def _headers(self) -> dict[str, str]:
        if not self._key:
            raise RuntimeError("no key yet: `unlock` comes first")
        return {"X-Api-Key": self._key}

    def _read(self, data: Any, answer: Answer) -> SmsResult:
        match data:
            case {"IsSuccess": True}:
                message_id = str(data.get("TransactionId") or "")
                return Accepted(message_id=message_id, cost=self._cost(data.get("ChargedAmount")))
            case {"IsSuccess": False}:
                return _refusal(str(data.get("ErrorDescription")), answer)
            case _:
                return wire.without_words(answer)

    def _cost(self, charged: Any) -> Cost | None:
        """`charged` is a number, or a text of one."""
        amount = str(charged)
        return (
            Cost(self._currency, Decimal(amount)) if re.fullmatch(r"\d{1,12}(\.\d{1,12})?", amount, re.ASCII) else None
        )


def _wire(text: Text) -> Mapping[str, str]:
    return {"PhoneNumber": text.to, "MessageText": text.body, "Sender": text.sender}


def _refusal(described: str, answer: Answer) -> NotAccepted:
    for words, refused in _REFUSED:
        if words.search(described):
            return refused()
    return NotTaken("not sent") if answer.verdict is Verdict.ANSWERED else wire.without_words(answer)
