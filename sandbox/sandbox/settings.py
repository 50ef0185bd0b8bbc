"""The sandbox's settings; the only reader of the environment."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

SecretName = Literal[
    "payment-b-key",
    "provider-webhook-secrets",
    "africas-talking-key",
    "legacy-sms-key",
    "receipt-secrets",
    "inn8-client-secret",
]


class Settings(BaseSettings):
    """Where the sandbox listens and keeps its records. All but the HTTP port are read from `SANDBOX_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="SANDBOX_", frozen=True, validate_by_name=True)

    # The address that is listened on.
    host: str = "127.0.0.1"
    # Where the sandbox listens; Dapr tells an app its port by this name.
    app_port: int = Field(default=8009, validation_alias="APP_PORT")
    # Where its mail server listens.
    smtp_port: int = 8025
    # Its records, and the key that signs its tokens.
    data_dir: Path = Path("var/data/sandbox")
    # Where a secret is looked up that the environment doesn't name: the entry `sandbox` of what `make setup` makes.
    secrets_file: Path = Path("var/secrets.json")
    # What provider B takes for our key; empty: as the secrets file says.
    payment_b_key: str = Field(default="", repr=False)
    # Where the payment providers send webhooks, below it `/a` and `/b`; empty: nowhere.
    webhook_url: str = ""
    # JSON by provider: the `whsec_` secrets that sign those.
    provider_webhook_secrets: str = Field(default="", repr=False)
    # What Africa's Talking takes for our key; empty: as the secrets file says.
    africas_talking_key: str = Field(default="", repr=False)
    # What the legacy SMS provider takes for our key; empty: as the secrets file says.
    legacy_sms_key: str = Field(default="", repr=False)
    # Price of one text at Africa's Talking, in the currency of the account.
    sms_price: str = Field(default="KES 0.8000", pattern=r"^[A-Z]{3} \d{1,6}\.\d{4}$")
    # Where receipts are sent, below it `/africas-talking`, `/africas-talking-inbound`, `/legacy` and `/smtp`. Empty:
    # nowhere, unless `PUT /sandbox/receipts` asks for them.
    receipt_url: str = ""
    # JSON by provider: what `africas-talking` puts into its URLs, and the `whsec_` secrets of `legacy` and `smtp`.
    receipt_secrets: str = Field(default="", repr=False)
    # What INN8 takes for our secret; empty: as the secrets file says.
    inn8_client_secret: str = Field(default="", repr=False)
    # How many rows INN8 has of an entity, where it shall not be the usual number; JSON: `{"clients": 100}`.
    inn8_rows: dict[str, int] = {}
    # How long a payment provider knows an idempotency key.
    key_ttl: timedelta = timedelta(hours=24)
    # What `iss` of its tokens is: a name, not an address; it stays when the port is moved.
    issuer: str = "http://localhost:8009"
    # What `aud` of its tokens is.
    audience: str = "brewline"
    # Where the back office's pages are: they may call the controls from a browser, and who signs in comes back there.
    pages_url: str = "http://localhost:8005"
    # How long an access token is good.
    token_lifetime: timedelta = Field(default=timedelta(hours=1), gt=timedelta(0))
    # How long one of `brewline token` is good, for people at a command line.
    dev_token_lifetime: timedelta = Field(default=timedelta(hours=8), gt=timedelta(0))

    def secret(self, name: SecretName) -> str:
        """By the environment, else by the secrets file; empty when it is in neither. Raises ValueError on torn JSON."""
        named: str = getattr(self, name.replace("-", "_"))
        if named or not self.secrets_file.exists():
            return named
        filed: dict[str, Any] = json.loads(self.secrets_file.read_text())
        return filed.get("sandbox", {}).get(name, "")
