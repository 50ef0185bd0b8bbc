"""Personal data and secrets are blanked in whatever leaves the process as a log record or a span: by the key that they
stand under, and by their shape wherever else they stand."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from types import NoneType
from typing import Any, cast
from urllib.parse import unquote
from uuid import UUID

import structlog
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Status

_REDACTED = "[redacted]"
_SECRET_KEYS = frozenset(
    {"card", "cardnumber", "phone", "mobile", "to", "authorization", "name", "firstname", "lastname", "fullname",
     "customername", "recipientname", "address", "html", "text", "subject", "message", "body", "apikey"}
)  # fmt: skip
_SECRET_ENDINGS = ("token", "password", "secret", "signature", "email", "phone", "phonenumber", "msisdn", "messagetext")
_SECRET_IN_QUERIES = frozenset({"key", "code", "sig"})  # elsewhere they name rows and errors

_SHORTEST_CARD, _LONGER_THAN_CARDS = 10**12, 10**19
_A_WORD = 32  # characters; longer ones differ

_TELLING_NOTHING = (int, float, date, UUID, NoneType)  # what else there is becomes a text, and is looked at

# What gives itself away wherever it stands: JWTs and bearer tokens, card tokens, e-mail addresses, phone numbers that
# begin with +, and card numbers. What may be long begins only where a word does, or after %XX or \n, and is never
# read twice: else a text of a caller's making could keep us for minutes.
_TELLING_TEXT = re.compile(
    r"(?:(?<![\w-])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrt]))eyJ[\w-]{8,}+\.[\w-]++\.?[\w-]*+"
    r"|(?i:\bbearer\s+)[\w.~+/=-]+|\btok_\w+"
    r"|(?<![\w.+%-])[\w.+%-]+(?:@|%40)[\w-]++(?:\.[\w-]++)+"
    r"|(?:\+|%2B)[1-9](?:[ ()-]{0,2}\d){7,14}\b"
    r"|(?<![\w-])(?<!\d\.)(?P<card>[2-6]\d(?:[ -]?\d){11,17})(?![\w-]|\.\d)"
)

# A parameter of a URL's query or of a form, also of a URL that stands encoded in another one's query. Any character of
# its name may be encoded, and it may be of a list or a mapping: `user[token]`.
_PARAMETER = re.compile(
    r"(?:^|[?&;#]|%3[Ff]|%23|%26)(?P<name>(?:[\w.\[\]-]|%(?!3[DdFf]|2[36])[0-9A-Fa-f]{2}){1,64}+)(?:=|%3[Dd])"
)
_ITS_VALUE = re.compile(r"[^&;\s\"'<>]*")


# What most long texts are: our ids, moments, and the trace's ids, each another one, and none of them telling.
_TELLING_NOTHING_TEXT = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|\+00:00)"
    r"|00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
)


def redact(value: Any) -> Any:
    """A copy without personal data and secrets, at any depth: whatever stands under a telling key is blanked, and so is
    what looks like an address, a token or a card number in any text."""
    if isinstance(value, str):
        if _TELLING_NOTHING_TEXT.fullmatch(value):
            return value
        return _redact_word(value) if len(value) <= _A_WORD else _redact_text(value)
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value)
        return {_key(key): _REDACTED if _telling(str(key)) else redact(inner) for key, inner in items.items()}
    if isinstance(value, list | tuple):
        return [redact(row) for row in cast("list[Any]", value)]
    if isinstance(value, int) and _SHORTEST_CARD <= value < _LONGER_THAN_CARDS:
        return value if redact(text := str(value)) == text else _REDACTED
    return value if isinstance(value, _TELLING_NOTHING) else redact(str(value))


def _key(key: Any) -> Any:
    if not isinstance(key, str):
        return key
    return _redact_word(key) if len(key) <= _A_WORD else _redact_text(key)


def redact_record(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Every record, whoever wrote it. An exception's frames have names of their own: only its texts are looked at."""
    frames = event.pop("exception", None)
    told = cast("dict[str, Any]", redact(event))
    if frames is not None:
        told["exception"] = _redact_texts(frames)
    return told


class RedactingExporter(SpanExporter):
    """Spans as they leave: what was set last is looked at too, and what an exception said; nobody waits for it."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([_redact_span(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _redact_span(span: ReadableSpan) -> ReadableSpan:
    status = span.status
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=redact(span.attributes or {}),
        events=[Event(one.name, redact(one.attributes or {}), one.timestamp) for one in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(status.status_code, redact(status.description)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


@lru_cache(maxsize=4096)
def _telling(key: str) -> bool:
    plain = key.replace("_", "").replace("-", "").lower()
    return plain in _SECRET_KEYS or plain.endswith(_SECRET_ENDINGS)


def _redact_text(text: str) -> str:
    told = _redact_parameters(_TELLING_TEXT.sub(_blanked, text))
    if text.isascii() or (plain := unicodedata.normalize("NFKC", told)) == told:
        return told
    # Digits and letters in full width tell as much as others.
    found = _redact_parameters(_TELLING_TEXT.sub(_blanked, plain))
    return told if found == plain else found


# Most of what a record says are the same few words, again and again.
_redact_word = lru_cache(maxsize=4096)(_redact_text)


def _blanked(found: re.Match[str]) -> str:
    card = found["card"]
    return found[0] if card and not adds_up(card) else _REDACTED


def adds_up(card: str) -> bool:
    """By Luhn's check digit (ISO/IEC 7812): other long numbers are left alone."""
    digits = [int(char) for char in reversed(card) if char.isdecimal()]
    return sum(digits[::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0


def _redact_parameters(text: str) -> str:
    if "=" not in text and "%3" not in text:
        return text
    kept, end = "", 0
    for found in _PARAMETER.finditer(text):
        name = unquote(found["name"]).replace("[", "").replace("]", "")
        if found.start() >= end and (_telling(name) or name.lower() in _SECRET_IN_QUERIES):
            kept += text[end : found.end()] + _REDACTED
            end = _ITS_VALUE.match(text, found.end()).end()  # pyright: ignore[reportOptionalMemberAccess]  always one
    return kept + text[end:]


def _redact_texts(value: Any) -> Any:
    """As `redact`, whatever the keys are."""
    if isinstance(value, dict):
        return {key: _redact_texts(inner) for key, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_redact_texts(row) for row in cast("list[Any]", value)]
    return redact(value)
