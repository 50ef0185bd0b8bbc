"""What only this machine knows, made once in `var/`: the secrets that sidecars hand out, and the tokens of sidecars and
apps. `make setup` makes them; what is there is never changed, what is missing is added."""

import contextlib
import fcntl
import json
import os
import sys
from base64 import b64encode
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from secrets import token_bytes, token_urlsafe
from typing import cast

from cryptography.fernet import Fernet

from stack.local import LocalError

# Where this machine's `var/` is: another place is another Brewline beside the first, on other ports.
ROOT = Path(__file__).resolve().parents[3]
HOME = Path(os.environ.get("BREWLINE_HOME") or ROOT).resolve()
VAR = HOME / "var"
ADAPTERS = ROOT.glob("services/payment/payment/providers/provider_*.py")  # one file each
PROVIDERS = sorted(file.stem.removeprefix("provider_") for file in ADAPTERS)
SEALERS = ("order-service", "payment-service", "notification-service", "backoffice-service")
TOKENS = ("APP_API_TOKEN", "DAPR_API_TOKEN")

Secrets = dict[str, dict[str, str]]
Makers = Mapping[str, Callable[[], str]]


def secrets_file(var: Path = VAR) -> Path:
    """The file behind `components/secretstore.yaml`, complete."""
    file = var / "secrets.json"
    with alone(var):
        known = read_secrets(file)
        whole = {name: values | known.get(name, {}) for name, values in fresh_secrets(var, known).items()}
        if (whole := known | whole) != known:
            write(file, json.dumps(whole, indent=2) + "\n")
    return file


def fresh_secrets(var: Path, known: Secrets) -> Secrets:
    fresh = {app_id: {"seal-keys": old_key(var, app_id) or Fernet.generate_key().decode()} for app_id in SEALERS}
    sandbox = known.get("sandbox", {})
    paid = shared(known.get("payment-service", {}), sandbox, PAYMENT_MAKERS)
    fresh["payment-service"] |= paid
    notified = shared(known.get("notification-service", {}), sandbox, NOTIFICATION_MAKERS)
    fresh["notification-service"] |= {"unsubscribe-key": token_urlsafe(32), **notified}
    fresh["backoffice-service"] |= {"link-key": token_urlsafe(32)}
    fresh["datasource-service"] = shared(known.get("datasource-service", {}), sandbox, DATASOURCE_MAKERS)
    return {**fresh, "sandbox": paid | notified | fresh["datasource-service"], "redis": {"password": ""}}


def shared(service: dict[str, str], sandbox: dict[str, str], makers: Makers) -> dict[str, str]:
    """What a service and the outside world know of each other. What one of the two has is what the other gets."""
    return {name: service.get(name) or sandbox.get(name) or make() for name, make in makers.items()}


def fresh_webhook_secrets() -> str:
    """JSON by provider."""
    return json.dumps({provider: fresh_webhook_secret() for provider in PROVIDERS})


def fresh_receipt_secrets() -> str:
    """JSON by provider: Africa's Talking signs nothing and shows its secret in the URL, the others sign."""
    signing = {provider: fresh_webhook_secret() for provider in ("legacy", "smtp")}
    return json.dumps({"africas-talking": token_urlsafe(32), **signing})


def fresh_webhook_secret() -> str:
    """As Standard Webhooks writes them: 24 to 64 bytes in base64."""
    return f"whsec_{b64encode(token_bytes(32)).decode()}"


# Provider B's key, and what the webhooks of each are known by.
PAYMENT_MAKERS: Makers = {
    "payment-b-key": lambda: token_urlsafe(32),
    "provider-webhook-secrets": fresh_webhook_secrets,
}
# The keys of the SMS providers, and what receipts are known by.
NOTIFICATION_MAKERS: Makers = {
    "africas-talking-key": lambda: token_urlsafe(32),
    "legacy-sms-key": lambda: token_urlsafe(32),
    "receipt-secrets": fresh_receipt_secrets,
}
# What INN8 knows us by.
DATASOURCE_MAKERS: Makers = {"inn8-client-secret": lambda: token_urlsafe(32)}


def old_key(var: Path, app_id: str) -> str:
    """The key that the service had in a file of its own until this store was: what it sealed must still open."""
    file = var / "keys" / f"{app_id.removesuffix('-service')}.key"
    return file.read_text().strip() if file.exists() else ""


def read_secrets(file: Path) -> Secrets:
    if not file.exists():
        return {}
    try:
        return cast("Secrets", json.loads(file.read_text()))
    except ValueError as broken:  # never made anew: it holds the keys of what is in the databases
        raise LocalError(f"{file} is not JSON ({broken}): mend it, or delete it together with var/data") from None


def tokens(var: Path = VAR) -> dict[str, str]:
    """APP_API_TOKEN and DAPR_API_TOKEN, for the environment of sidecars and apps alike."""
    file = var / "tokens.env"
    with alone(var):
        lines = file.read_text().splitlines() if file.exists() else []
        known = dict(line.split("=", 1) for line in lines if "=" in line)
        whole = {name: known.get(name) or token_urlsafe(32) for name in TOKENS}
        if whole != known:
            write(file, "".join(f"{name}={value}\n" for name, value in whole.items()))
    return whole


@contextlib.contextmanager
def alone(var: Path) -> Generator[None]:
    """Two that make the same thing at once would each go on with its own."""
    var.mkdir(parents=True, exist_ok=True)
    with (var / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write(file: Path, text: str) -> None:
    """As a whole or not at all, and for its owner alone from the first byte on."""
    draft = file.with_name(f"{file.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)
    draft.replace(file)


if __name__ == "__main__":
    try:
        secrets_file()
        tokens()
    except LocalError as error:
        sys.exit(f"setup: {error}")
