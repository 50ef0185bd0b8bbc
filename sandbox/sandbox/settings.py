"""The sandbox's settings; the only reader of the environment."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

SecretName = Literal[
    "payment-b-key", "provider-webhook-secrets", "africas-talking-key", "legacy-sms-key", "receipt-secrets"
]


class Settings(BaseSettings):
    """Where the sandbox listens and keeps its records. All but the HTTP port are read from `SANDBOX_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="SANDBOX_", frozen=True, validate_by_name=True)

    host: str = "127.0.0.1"
    # Dapr tells an app its port by this name.
    app_port: int = Field(default=8009, validation_alias="APP_PORT")
    smtp_port: int = 8025
    data_dir: Path = Path("var/data/sandbox")
    # Where a secret is looked up that the environment doesn't name: the entry `sandbox` of what `make setup` makes.
    secrets_file: Path = Path("var/secrets.json")
    payment_b_key: str = Field(default="", repr=False)
    # Below it: `/a` and `/b`. Empty: no webhooks.
    webhook_url: str = ""
    provider_webhook_secrets: str = Field(default="", repr=False)
    africas_talking_key: str = Field(default="", repr=False)
    legacy_sms_key: str = Field(default="", repr=False)
    # Of one text at Africa's Talking, in the currency of the account.
    sms_price: str = Field(default="KES 0.8000", pattern=r"^[A-Z]{3} \d{1,6}\.\d{4}$")
    # Below it: `/africas-talking`, `/africas-talking-inbound`, `/legacy` and `/smtp`. Empty: no receipts, unless
    # `PUT /sandbox/receipts` asks for them.
    receipt_url: str = ""
    # JSON: what `africas-talking` puts into its URLs, and the `whsec_` secrets of `legacy` and `smtp`.
    receipt_secrets: str = Field(default="", repr=False)
    # The contract: keys live 24 h.
    key_ttl: timedelta = timedelta(hours=24)
    # A name that services and tokens agree on, not an address: it stays when the port is moved.
    issuer: str = "http://localhost:8009"
    audience: str = "brewline"
    token_lifetime: timedelta = Field(default=timedelta(hours=1), gt=timedelta(0))
    # For people at a command line, who would not like to ask for another every hour.
    dev_token_lifetime: timedelta = Field(default=timedelta(hours=8), gt=timedelta(0))

    def secret(self, name: SecretName) -> str:
        """By the environment, else by the secrets file; empty when it is in neither. Raises ValueError on torn JSON."""
        named: str = getattr(self, name.replace("-", "_"))
        if named or not self.secrets_file.exists():
            return named
        filed: dict[str, Any] = json.loads(self.secrets_file.read_text())
        return filed.get("sandbox", {}).get(name, "")
