"""How a message gets out: one adapter a file, and the dict that names them."""

from collections.abc import Mapping
from typing import Protocol

from chassis.sidecar import Sidecar
from notification.channels.email import Email
from notification.channels.push import Push
from notification.domain import ChannelName, Notification, Outcome
from notification.rendering import Templates
from notification.settings import Settings


class Channel(Protocol):
    """`send` answers every expected ending as a value. It may be asked again for the same notification id."""

    @property
    def concurrency(self) -> int: ...

    async def send(self, notification: Notification) -> Outcome: ...

    async def close(self) -> None: ...


Channels = Mapping[ChannelName, Channel]


def open_channels(settings: Settings, sidecar: Sidecar) -> Channels:
    """Nothing connects yet: each connects when it first sends."""
    return {
        ChannelName.EMAIL: Email(
            host=settings.smtp_host,
            port=settings.smtp_port,
            sender=settings.smtp_from,
            connections=settings.smtp_connections,
            templates=Templates(),
        ),
        ChannelName.PUSH: Push(sidecar=sidecar, endpoint=settings.push_endpoint),
    }
