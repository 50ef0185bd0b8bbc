"""How a message gets out: one adapter a file, and the dict that names them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from chassis.sidecar import Sidecar
from notification.channels.email.channel import Email
from notification.channels.live.channel import Live
from notification.channels.push.channel import Push
from notification.channels.sms.channel import Sms, SmsProvider, sms_providers
from notification.domain import ChannelName, Message, Outcome
from notification.settings import Settings


class Channel(Protocol):
    """`send` answers every expected ending as a value. It may be asked again for the same notification id."""

    @property
    def concurrency(self) -> int: ...

    async def send(self, message: Message) -> Outcome: ...

    async def close(self) -> None: ...


Channels = Mapping[ChannelName, Channel]


@dataclass(frozen=True, kw_only=True)
class Open:
    """The channels, and what of them needs a secret, which comes once the sidecar is there."""

    channels: Channels
    email: Email
    sms: Mapping[str, SmsProvider]

    def unlock(self, secrets: Mapping[str, str]) -> None:
        for name, provider in self.sms.items():
            provider.unlock(secrets[_KEYS[name]])
        if password := secrets.get("smtp-password"):
            self.email.unlock(password)


_KEYS = {"africas-talking": "africas-talking-key", "legacy": "legacy-sms-key"}


def open_channels(settings: Settings, sidecar: Sidecar) -> Open:
    """Nothing connects yet: each connects when it first sends."""
    providers = sms_providers(sidecar, username=settings.africas_talking_username)
    if unknown := set(settings.sms_providers) - set(providers):
        raise ValueError(f"NOTIFICATION_SMS_PROVIDERS names none of ours: {', '.join(sorted(unknown))}")
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
    return Open(channels=channels, email=email, sms=providers)
