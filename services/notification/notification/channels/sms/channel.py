"""Text messages: a chain of providers, and the policy by which one takes over from another.

At least once. Where nobody knows whether a provider took a message, the same provider is asked again: Africa's Talking
knows no idempotency key, so that may be a second message, but going elsewhere surely would be. A critical message goes
elsewhere all the same: for it a duplicate is better than silence.
"""

import re
from collections.abc import Sequence
from time import monotonic

import structlog
from cachetools import LRUCache

from notification.channels.sms.providers.wire import (
    Accepted,
    AccountError,
    NotAccepted,
    Rejected,
    SmsProvider,
    Text,
    Unavailable,
    Unknown,
)
from notification.domain import Message
from notification.outcomes import Delivered, Down, Outcome, Postponed, Refused
from notification.templates.sms_length import measure

log = structlog.get_logger()

_E164 = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
_STAY_SECONDS = 600.0
_REMEMBERED = 10_000
# Each of them is paid for, and a phone gets them one by one: 1,530 letters, or 670 of UCS-2, are a template's mistake.
_MOST_SEGMENTS = 10


class Sms:
    """`providers` are asked in their order. `sender` is registered with all of them, or "".

    For `stay` seconds a message waits for the provider that may have it already. Which one that is stands in its row
    before that provider is asked; since when, each process counts for itself.
    """

    concurrency = 16

    def __init__(self, providers: Sequence[SmsProvider], sender: str, *, stay: float = _STAY_SECONDS) -> None:
        if not providers:
            raise ValueError("no provider")
        self._providers = providers
        self._sender = sender
        self._stay = stay
        # A message's id and the provider that may have it → when it was first met so, on the monotonic clock.
        self._since = LRUCache[tuple[str, str], float](maxsize=_REMEMBERED)

    async def send(self, message: Message) -> Outcome:
        if not message.rendered.sms:
            return Refused(f"template {message.template} has no text for sms")
        if not _E164.fullmatch(message.address):
            return Refused("the number can't be used")
        if measure(message.rendered.sms).segments > _MOST_SEGMENTS:
            return Refused(f"the text is longer than {_MOST_SEGMENTS} segments")
        text = Text(id=message.id, to=message.address, body=message.rendered.sms, sender=self._sender)
        may_have_it = self._may_have(message)
        refusals: list[tuple[str, NotAccepted]] = []
        for provider in self._chain("" if message.critical else may_have_it):
            await message.posting(provider.name)
            result = await provider.send(text)
            if isinstance(result, Accepted):
                return _delivered(provider, result, text)
            refusals.append((provider.name, result))
            _log_refusal(message, provider.name, result)
            if isinstance(result, Unknown):
                may_have_it = provider.name
            if isinstance(result, Rejected) and may_have_it in {"", provider.name}:
                return Refused(f"{provider.name} {result.reason}", bounced=result.bounced, provider=provider.name)
            if isinstance(result, Unknown) and not message.critical:
                break
        return _not_accepted(refusals, may_have_it or message.provider)

    def _may_have(self, message: Message) -> str:
        """The provider that may have taken it in an earlier attempt; "" where none has, or the wait is over."""
        if not message.provider:
            return ""
        since = self._since.setdefault((message.id, message.provider), monotonic())
        return message.provider if monotonic() - since < self._stay else ""

    def _chain(self, only: str) -> Sequence[SmsProvider]:
        return [provider for provider in self._providers if provider.name == only] or self._providers

    async def close(self) -> None:
        return


def _not_accepted(refusals: Sequence[tuple[str, NotAccepted]], may_have_it: str) -> Outcome:
    """`refusals` are what the providers that were asked said. Where none may have it, each said a definite no."""
    error = "; ".join(f"{name} {result.reason}" for name, result in refusals)
    if may_have_it:
        return Postponed(error, provider=may_have_it)
    if all(isinstance(result, Unavailable) for _, result in refusals):
        error = "SMS service temporarily unavailable"
    return Down(error)


def _delivered(provider: SmsProvider, taken: Accepted, text: Text) -> Delivered:
    return Delivered(
        content=text.body,
        provider=provider.name,
        message_id=taken.message_id,
        segments=taken.segments or measure(text.body).segments,  # ours where the provider tells none
        cost="" if taken.cost is None else str(taken.cost),
        askable=provider.askable,
    )


def _log_refusal(message: Message, provider: str, result: NotAccepted) -> None:
    """An account that needs mending is an error: somebody is to be called."""
    record = log.error if isinstance(result, AccountError) else log.warning
    event = "sms.account_error" if isinstance(result, AccountError) else "sms.not_accepted"
    record(event, provider=provider, reason=result.reason, notification_id=message.id)
