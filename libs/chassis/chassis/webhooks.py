"""Who signed a webhook (https://www.standardwebhooks.com)?"""

from collections.abc import Mapping
from typing import Any, cast

import orjson
from standardwebhooks import Webhook, WebhookVerificationError
from standardwebhooks.webhooks import EmptyWebhookSecretError


class NotSigned(Exception):
    """The signature is missing, wrong, or more than five minutes old."""

    def __init__(self) -> None:
        super().__init__("The webhook's signature is missing, wrong, or more than five minutes old.")


class Signatures:
    """`secrets` are comma-separated `whsec_<base64>`, the newest first: while they rotate, either may sign. Nobody's
    are believed without one. Raises ValueError for a secret that is no base64 or empty."""

    def __init__(self, secrets: str = "") -> None:
        self._keys = [_key(one.strip()) for one in secrets.split(",") if one.strip()]

    def verify(self, body: bytes, headers: Mapping[str, str]) -> str:
        """The delivery's id. Raises NotSigned."""
        for key in self._keys:
            try:
                key.verify(body, dict(headers), json_parse=False)
            except (WebhookVerificationError, ValueError):  # the library lets what is no base64 or UTF-8 through
                continue
            return headers["webhook-id"]
        raise NotSigned


def by_provider(secrets: str) -> dict[str, Signatures]:
    """Of JSON that has every provider's own: one that leaks speaks for nobody else. Raises ValueError for what is no
    such JSON, and naming the provider whose secret is none."""
    known = orjson.loads(secrets)
    if not isinstance(known, dict):
        raise ValueError("webhook secrets are JSON by provider")  # noqa: TRY004  what settings and secrets raise
    return {str(provider): _of(str(provider), str(of)) for provider, of in cast("dict[str, Any]", known).items()}


def _of(provider: str, secrets: str) -> Signatures:
    try:
        return Signatures(secrets)
    except ValueError:
        raise ValueError(f"one of {provider}'s webhook secrets is no key") from None


def _key(secret: str) -> Webhook:
    try:
        return Webhook(secret)
    except EmptyWebhookSecretError as empty:
        raise ValueError(str(empty)) from None
