"""The providers of text messages: each a file of this folder, and its entry here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chassis.sidecar import Sidecar
from notification.channels.sms.providers.africas_talking import AfricasTalking
from notification.channels.sms.providers.legacy import Legacy
from notification.channels.sms.providers.wire import SmsProvider
from notification.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`secret` is the name of its key in the secret store, `rate` how many bulk messages a second it takes unless the
    settings say otherwise."""

    provider: Callable[[Sidecar, Settings], SmsProvider]
    secret: str
    rate: float


# By the name that settings and rows use.
PROVIDERS: Mapping[str, Entry] = {
    AfricasTalking.name: Entry(
        provider=lambda sidecar, settings: AfricasTalking(sidecar, username=settings.africas_talking_username),
        secret="africas-talking-key",  # noqa: S106  its name
        rate=50,
    ),
    Legacy.name: Entry(
        provider=lambda sidecar, _: Legacy(sidecar, currency="USD"),
        secret="legacy-sms-key",  # noqa: S106  its name
        rate=50,
    ),
}
