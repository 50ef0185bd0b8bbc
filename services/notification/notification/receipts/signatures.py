"""Who may tell what became of a message: the secrets of the providers."""

import hmac
from collections.abc import Mapping, Sequence

import orjson

from chassis.webhooks import NotSigned, Signatures


class ReceiptSignatures:
    """By provider, each with secrets of its own: one that leaks speaks for nobody else."""

    def __init__(self) -> None:
        self._secrets: Mapping[str, Sequence[str]] = {}
        self._signatures: Mapping[str, Signatures] = {}

    def unlock(self, receipt_secrets: str) -> None:
        """JSON by provider, each comma-separated, newest first: while they rotate, either is good. A `whsec_…` is of
        one that signs (Standard Webhooks). Raises ValueError for one that is no key."""
        by_provider: dict[str, str] = orjson.loads(receipt_secrets)
        self._secrets = {
            provider: [secret for part in secrets.split(",") if (secret := part.strip())]
            for provider, secrets in by_provider.items()
        }
        self._signatures = {
            provider: _signatures(provider, secrets) for provider, secrets in by_provider.items() if "whsec_" in secrets
        }

    def require_secret(self, provider: str, given: str) -> None:
        """Raises NotSigned."""
        known = self._secrets.get(provider, [])
        if not any(hmac.compare_digest(secret.encode(), given.encode()) for secret in known):
            raise NotSigned

    def require_signature(self, provider: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Raises NotSigned."""
        self._signatures.get(provider, Signatures()).verify(body, headers)


def _signatures(provider: str, secrets: str) -> Signatures:
    try:
        return Signatures(secrets)
    except ValueError:
        raise ValueError(f"receipt-secrets: one of {provider}'s is no key") from None
