"""Who signed a webhook (https://www.standardwebhooks.com)?"""

from collections.abc import Mapping

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


def _key(secret: str) -> Webhook:
    try:
        return Webhook(secret)
    except EmptyWebhookSecretError as empty:
        raise ValueError(str(empty)) from None
