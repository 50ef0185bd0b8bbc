"""This machine's secrets and tokens: made once, for their owner alone, and never changed."""

import json
from base64 import b64decode, urlsafe_b64decode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from cli import vault
from payment.providers import PROVIDERS
from stack.local import LocalError


def secrets(var: Path) -> vault.Secrets:
    return json.loads(vault.secrets_file(var).read_text())


def test_each_service_that_seals_has_a_key_of_its_own_and_redis_an_empty_password(tmp_path: Path):
    made = secrets(tmp_path)

    sealers = {"order-service", "payment-service", "notification-service"}
    assert set(made) == sealers | {"backoffice-service", "datasource-service", "sandbox", "redis"}
    keys = {made[app_id]["seal-keys"] for app_id in sealers}
    assert len(keys) == 3
    assert all(Fernet(key) for key in keys)
    assert made["redis"] == {"password": ""}


def test_what_is_there_stays_and_what_is_missing_is_added(tmp_path: Path):
    theirs = {"order-service": {"seal-keys": "new,old", "more": "x"}, "redis": {"password": "hush"}, "own": {"a": "b"}}
    (tmp_path / "secrets.json").write_text(json.dumps(theirs))

    made = secrets(tmp_path)

    assert made.items() >= theirs.items()
    assert Fernet(made["payment-service"]["seal-keys"])
    assert secrets(tmp_path) == made


def test_a_key_that_has_sealed_before_is_taken_over(tmp_path: Path):
    key = Fernet.generate_key().decode()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "payment.key").write_text(f"{key}\n")

    assert secrets(tmp_path)["payment-service"]["seal-keys"] == key


def test_payment_and_the_sandbox_know_the_same_key_and_secret(tmp_path: Path):
    made = secrets(tmp_path)

    payment, sandbox = made["payment-service"], made["sandbox"]
    assert set(payment) == {"seal-keys", "payment-b-key", "provider-webhook-secrets"}
    assert set(sandbox) >= {"payment-b-key", "provider-webhook-secrets"}
    assert payment["payment-b-key"] == sandbox["payment-b-key"]
    assert len(payment["payment-b-key"]) >= 32
    assert payment["provider-webhook-secrets"] == sandbox["provider-webhook-secrets"]


def test_each_provider_of_payments_has_a_webhook_secret_of_its_own(tmp_path: Path):
    known = json.loads(secrets(tmp_path)["payment-service"]["provider-webhook-secrets"])

    assert set(known) == set(PROVIDERS)
    assert len(set(known.values())) == len(known)
    for secret in known.values():
        prefix, _, encoded = secret.partition("_")
        assert (prefix, len(b64decode(encoded, validate=True))) == ("whsec", 32)


SMS = {"africas-talking-key", "legacy-sms-key", "receipt-secrets"}


def test_notification_and_the_sandbox_know_the_same_keys_and_secrets(tmp_path: Path):
    made = secrets(tmp_path)

    notification, sandbox = made["notification-service"], made["sandbox"]
    assert set(notification) == {"seal-keys", "unsubscribe-key"} | SMS
    assert set(sandbox) == {"payment-b-key", "provider-webhook-secrets", "inn8-client-secret"} | SMS
    assert {name: notification[name] for name in SMS} == {name: sandbox[name] for name in SMS}
    keys = {notification[name] for name in ("unsubscribe-key", "africas-talking-key", "legacy-sms-key")}
    assert len(keys) == 3
    assert {len(urlsafe_b64decode(key + "=")) for key in keys} == {32}


def test_each_source_of_receipts_has_a_secret_of_its_own(tmp_path: Path):
    receipts = json.loads(secrets(tmp_path)["notification-service"]["receipt-secrets"])

    assert set(receipts) == {"africas-talking", "legacy", "smtp"}
    assert len(set(receipts.values())) == 3
    assert len(urlsafe_b64decode(receipts["africas-talking"] + "=")) == 32
    for name in ("legacy", "smtp"):
        prefix, _, encoded = receipts[name].partition("_")
        assert (prefix, len(b64decode(encoded, validate=True))) == ("whsec", 32)


SHARED = {
    "notification-service": {"africas-talking-key": "at", "legacy-sms-key": "old", "receipt-secrets": "{}"},
    "payment-service": {"payment-b-key": "k", "provider-webhook-secrets": "{}"},
}


@pytest.mark.parametrize("service", SHARED)
@pytest.mark.parametrize("turned", [False, True])
def test_what_one_of_a_service_and_the_sandbox_has_is_given_to_the_other(tmp_path: Path, service: str, turned: bool):
    has, gets = ("sandbox", service) if turned else (service, "sandbox")
    (tmp_path / "secrets.json").write_text(json.dumps({has: SHARED[service]}))

    made = secrets(tmp_path)

    assert made[has].items() >= SHARED[service].items()
    assert made[gets].items() >= SHARED[service].items()


def test_what_was_there_under_an_older_name_is_left_alone(tmp_path: Path):
    """One secret stood for all providers once."""
    older = {"payment-service": {"webhook-secrets": "whsec_p"}, "sandbox": {"webhook-secret": "whsec_p"}}
    (tmp_path / "secrets.json").write_text(json.dumps(older))

    made = secrets(tmp_path)

    assert all(made[app_id].items() >= values.items() for app_id, values in older.items())
    assert set(json.loads(made["payment-service"]["provider-webhook-secrets"])) == set(PROVIDERS)


def test_secrets_that_both_have_stay_even_if_they_differ(tmp_path: Path):
    theirs = {
        "payment-service": {"seal-keys": "s", "payment-b-key": "p", "provider-webhook-secrets": "p"},
        "notification-service": {"africas-talking-key": "n", "legacy-sms-key": "n", "receipt-secrets": "n"},
        "sandbox": {
            "payment-b-key": "b",
            "provider-webhook-secrets": "b",
            "africas-talking-key": "s",
            "legacy-sms-key": "s",
            "receipt-secrets": "s",
        },
    }
    (tmp_path / "secrets.json").write_text(json.dumps(theirs))

    made = secrets(tmp_path)

    assert all(made[app_id].items() >= values.items() for app_id, values in theirs.items())


def test_secrets_that_cannot_be_read_are_not_made_anew(tmp_path: Path):
    (tmp_path / "secrets.json").write_text("{torn")

    with pytest.raises(LocalError, match="is not JSON"):
        vault.secrets_file(tmp_path)
    assert (tmp_path / "secrets.json").read_text() == "{torn"


def test_the_tokens_are_two_and_stay(tmp_path: Path):
    made = vault.tokens(tmp_path)

    assert set(made) == {"APP_API_TOKEN", "DAPR_API_TOKEN"}
    assert len(set(made.values())) == 2
    assert min(map(len, made.values())) >= 32
    assert vault.tokens(tmp_path) == made
    assert (tmp_path / "tokens.env").read_text().splitlines() == [f"{name}={value}" for name, value in made.items()]


def test_both_files_are_their_owners_alone(tmp_path: Path):
    vault.tokens(tmp_path)

    for file in (vault.secrets_file(tmp_path), tmp_path / "tokens.env"):
        assert file.stat().st_mode & 0o777 == 0o600


def test_those_who_ask_at_once_get_the_same(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: (vault.tokens(tmp_path), secrets(tmp_path)), range(16)))

    assert all(each == made[0] for each in made)
