"""How a message gets out: a folder for each channel, and its entry here."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from chassis.sidecar import Sidecar
from notification.channels.email.channel import Email
from notification.channels.live.channel import Live
from notification.channels.push.channel import Push
from notification.channels.sms.channel import Sms
from notification.channels.sms.providers import PROVIDERS
from notification.channels.sms.providers.wire import SmsProvider
from notification.domain import ChannelName, Message
from notification.outcomes import Outcome
from notification.settings import Settings


class Channel(Protocol):
    """`send` answers every expected ending as a value. It may be asked again for the same notification id."""

    @property
    def concurrency(self) -> int: ...

    async def send(self, message: Message) -> Outcome: ...

    async def close(self) -> None: ...


Channels = Mapping[ChannelName, Channel]


@dataclass(frozen=True, kw_only=True)
class OpenChannels:
    """The channels, and what of them needs a secret, which comes once the sidecar is there."""

    channels: Channels
    email: Email
    sms: Mapping[str, SmsProvider]

    def unlock(self, secrets: Mapping[str, str]) -> None:
        for name, provider in self.sms.items():
            if key := secrets.get(PROVIDERS[name].secret):
                provider.unlock(key)
        if password := secrets.get("smtp-password"):
            self.email.unlock(password)


# Bulk messages a second, by provider, where the settings say nothing.
RATES: Mapping[str, float] = {"smtp": 100, "push": 100, "live": 500} | {
    name: entry.rate for name, entry in PROVIDERS.items()
}


def open_channels(settings: Settings, sidecar: Sidecar) -> OpenChannels:
    """Nothing connects yet: each connects when it first sends."""
    _require_known(settings.sms_providers, PROVIDERS, setting="NOTIFICATION_SMS_PROVIDERS")
    providers = {name: entry.provider(sidecar, settings) for name, entry in PROVIDERS.items()}
    email = Email(
        host=settings.smtp_host,
        port=settings.smtp_port,
        sender=settings.smtp_from,
        connections=settings.smtp_connections,
        tls=settings.smtp_tls,
        ca_file=settings.smtp_ca_file,
        username=settings.smtp_username,
    )
    channels: Channels = {
        ChannelName.EMAIL: email,
        ChannelName.SMS: Sms([providers[name] for name in settings.sms_providers], settings.sms_sender),
        ChannelName.PUSH: Push(sidecar=sidecar, endpoint=settings.push_endpoint),
        ChannelName.LIVE: Live(),
    }
    return OpenChannels(channels=channels, email=email, sms=providers)


def secrets_needed(settings: Settings) -> list[str]:
    """Of the providers that are tried. The key of another one is of use too: for what it has sent before."""
    return [PROVIDERS[name].secret for name in settings.sms_providers]


def bulk_rates(settings: Settings) -> Mapping[str, float]:
    """By channel. Which provider takes a text message is known when it is sent, so that all together go no faster than
    the slowest of them may. Raises ValueError for the rate of a provider that there is not."""
    by_provider = RATES if settings.provider_rates is None else settings.provider_rates
    _require_known(by_provider, RATES, setting="NOTIFICATION_BULK_RATES")
    providers = {"email": ("smtp",), "sms": settings.sms_providers, "push": ("push",), "live": ("live",)}
    rates = {
        channel: [by_provider[name] for name in names if name in by_provider] for channel, names in providers.items()
    }
    return {channel: min(limits) for channel, limits in rates.items() if limits}


def _require_known(names: Collection[str], known: Collection[str], *, setting: str) -> None:
    if unknown := set(names) - set(known):
        raise ValueError(f"{setting} names none of ours: {', '.join(sorted(unknown))}")
