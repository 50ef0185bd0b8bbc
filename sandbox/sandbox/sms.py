"""The texts that the SMS providers were asked for, and what the numbers in them stand for."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from sandbox.lists import Listed
from sandbox.records import Journal, stamp, utc_now

ProviderName = Literal["africas-talking", "legacy"]

NUMBER = r"^\+[1-9][0-9]{6,14}$"  # E.164

# How it ends for a number that ends so, in Africa's Talking's words with its reason; every other text is delivered.
FAILURES = {
    "9901": ("Failed", "UserDoesNotExist"),
    "9904": ("Rejected", "UserInBlackList"),
    "9905": ("AbsentSubscriber", ""),
    "9906": ("Expired", ""),
}
_FINAL_FIRST = "9902"
_ALL_TWICE = "9903"
_LATE = "9907"
_NEVER = "9908"
_LATE_S = 5.0

# For the page; a number of Africa's Talking meets its codes by `0` and the code besides.
ENDINGS = {
    **{ending: f"taken, then {status} {reason}".strip() for ending, (status, reason) in FAILURES.items()},
    _FINAL_FIRST: "the last report comes first",
    _ALL_TWICE: "every report comes twice",
    _LATE: f"the reports come {_LATE_S:.0f} s late",
    _NEVER: "no report ever comes",
    "0403": "refused, InvalidPhoneNumber; so with every other code of Africa's Talking",
    "0599": "refused by the legacy provider, InternalError",
}

T = TypeVar("T")


class Text(BaseModel):
    """One message to one number. `message_id` is None when it was refused, and `error` says why."""

    model_config = ConfigDict(frozen=True)

    to: str
    sender: str
    text: str
    message_id: str | None = None
    error: str | None = None


class Request(BaseModel):
    """One call to a provider, as it is on file."""

    model_config = ConfigDict(frozen=True)

    provider: ProviderName
    texts: list[Text]
    key: str | None = None
    fingerprint: str = ""
    at: datetime


class Texts:
    """Every text that was asked for; those accepted are `listed`, by number. A request is filed before it is answered.

    Every method runs without a pause on the one event loop, so two calls with the same key can't both be the first.
    """

    def __init__(self, *, journal: Journal, key_ttl: timedelta, clock: Callable[[], datetime] = utc_now) -> None:
        self._journal = journal
        self._key_ttl = key_ttl
        self._clock = clock
        self._accepted: dict[str, tuple[Request, Text]] = {}
        self._keys: dict[str, Request] = {}
        self.listed = Listed()
        for line in journal.replay():
            self._enter(Request.model_validate_json(line))

    def keep(
        self, provider: ProviderName, texts: Sequence[Text], *, key: str | None = None, fingerprint: str = ""
    ) -> Request:
        """Puts a request on file."""
        request = Request(provider=provider, texts=[*texts], key=key, fingerprint=fingerprint, at=self._clock())
        self._journal.append(request.model_dump_json().encode())
        self._enter(request)
        return request

    def under(self, key: str | None) -> Request | None:
        """The request with this key while the key lives."""
        known = self._keys.get(key) if key else None
        return known if known and self._clock() - known.at < self._key_ttl else None

    def found(self, provider: ProviderName, message_id: str) -> tuple[Text, timedelta] | None:
        """The text that the provider accepted under this id, and how long ago."""
        known = self._accepted.get(message_id)
        if known is None or known[0].provider != provider:
            return None
        request, text = known
        return text, self._clock() - request.at

    def forget(self) -> None:
        """Nothing was ever asked for."""
        self._journal.forget()
        self._accepted.clear()
        self._keys.clear()
        self.listed.forget()

    def _enter(self, request: Request) -> None:
        for text in request.texts:
            if text.message_id:
                self._accepted[text.message_id] = (request, text)
                self.listed.add(_shown(request, text), text.to)
        if request.key:
            self._keys[request.key] = request


def _shown(request: Request, text: Text) -> dict[str, Any]:
    return {
        "provider": request.provider,
        "to": text.to,
        "from": text.sender,
        "text": text.text,
        "messageId": text.message_id,
        "at": stamp(request.at),
    }


def is_number(text: str) -> bool:
    """Whether it has the form of a telephone number, `+` and all."""
    return re.fullmatch(NUMBER, text, re.ASCII) is not None


def reported(number: str, interim: T, final: T) -> list[T]:
    """The two reports of a text as its number stands for them: in which order, how often, or not at all."""
    if number.endswith(_NEVER):
        return []
    if number.endswith(_FINAL_FIRST):
        return [final, interim]
    if number.endswith(_ALL_TWICE):
        return [interim, interim, final, final]
    return [interim, final]


def lateness(number: str) -> float:
    """By how many seconds the reports of a text are late."""
    return _LATE_S if number.endswith(_LATE) else 0
