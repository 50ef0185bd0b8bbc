"""The process: what it remembers when killed, and how it stops."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.settings import Settings

from .conftest import AT_KEY, MerchantAtB, Outside, running, settings_in


@contextlib.contextmanager
def process(settings: Settings) -> Generator[tuple[subprocess.Popen[str], Outside]]:
    """`python -m sandbox.main` once its probe answers; killed at the end if it still runs."""
    environment = os.environ | {
        "APP_PORT": str(settings.app_port),
        "SANDBOX_SMTP_PORT": str(settings.smtp_port),
        "SANDBOX_DATA_DIR": str(settings.data_dir),
        "SANDBOX_PAYMENT_B_KEY": settings.payment_b_key,
        "SANDBOX_AFRICAS_TALKING_KEY": settings.africas_talking_key,
        "SANDBOX_LEGACY_SMS_KEY": settings.legacy_sms_key,
    }
    command = [sys.executable, "-m", "sandbox.main"]
    started = subprocess.Popen(  # noqa: S603  # our own module
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    outside = Outside(settings)
    with started, outside.http:
        try:
            for _ in range(2_000):
                with contextlib.suppress(httpx.ConnectError):
                    if outside.http.get("/health/ready").is_success:
                        break
                assert started.poll() is None
                time.sleep(0.01)
            yield started, outside
        finally:
            started.kill()


def fetch(outside: Outside) -> list[Any]:
    params = {"username": "brewline"}
    answer = outside.http.get("/version1/messaging", params=params, headers={"apiKey": AT_KEY})
    return answer.json()["SMSMessageData"]["Messages"]


def test_nothing_that_was_answered_is_lost_in_a_kill(tmp_path: Path):
    settings = settings_in(tmp_path)
    with process(settings) as (sandbox, outside):
        charged = outside.charge(key="c").json()
        declined = outside.charge(key="d", token="tok_declined").json()
        refund = outside.refund(charged["transactionId"], "9.00", key="r").json()
        at_b = MerchantAtB(outside).charge(key="c").json()
        pushed = outside.push(key="p").json()
        outside.text("+254711000111", "+254711000403")
        legacy = outside.legacy_text(key="l").json()
        outside.http.post("/sandbox/sms/inbound", json={"from": "+254711000111", "text": "STOP"})
        outside.send_mail(subject="kept")
        ledger, inbox, texts, fetched = outside.ledger(), outside.inbox(), outside.texts(), fetch(outside)
        sandbox.send_signal(signal.SIGKILL)
        sandbox.wait()

    with running(settings) as outside:
        assert outside.ledger() == ledger
        assert outside.inbox() == inbox
        assert outside.charge(key="c").json() == charged
        assert outside.charge(key="d", token="tok_declined").json() == declined
        assert outside.refund(charged["transactionId"], "9.00", key="r").json() == refund
        assert outside.refund(charged["transactionId"], "0.01").status_code == 422
        assert MerchantAtB(outside).charge(key="c").json() == at_b
        assert outside.push(key="p").json() == pushed
        assert (outside.texts(), fetch(outside)) == (texts, fetched)
        assert (len(texts), len(fetched)) == (2, 1)
        assert outside.legacy_text(key="l").json() == legacy
        assert len(outside.texts()) == 2
        assert len(outside.ledger()) == 3
        assert "tok_" not in (tmp_path / "payment-a.jsonl").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_soon_and_quietly_whatever_it_holds(tmp_path: Path, number: signal.Signals):
    settings = settings_in(tmp_path)
    with process(settings) as (sandbox, outside), outside.smtp() as idle:
        idle.ehlo()
        outside.set_fault("payment-a", "timeout", delayMs=600_000)
        outside.set_fault("push", "ok", delayMs=25_000)
        with held(settings, "GET", "/api/v1/payment"), held(settings, "POST", "/api/v1/notification"):
            began = time.monotonic()
            sandbox.send_signal(number)
            said, _ = sandbox.communicate(timeout=20)

    assert time.monotonic() - began < 10
    assert sandbox.returncode == 0
    assert [json.loads(line)["event"] for line in said.splitlines()] == ["sandbox.started"]


@contextlib.contextmanager
def held(settings: Settings, method: str, path: str) -> Generator[None]:
    """A call that the sandbox is holding: it has read all of it, as a later call on another connection shows."""
    with socket.create_connection(("127.0.0.1", settings.app_port)) as caller:
        caller.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        httpx.get(f"http://127.0.0.1:{settings.app_port}/health")
        yield


def test_what_is_forgotten_stays_forgotten(tmp_path: Path):
    settings = settings_in(tmp_path)
    with running(settings) as outside:
        outside.charge(key="c")
        outside.charge(key="f", token="tok_flaky")
        MerchantAtB(outside).charge(key="b")
        outside.push(key="p")
        outside.send_mail()
        outside.text()
        outside.legacy_text(key="l")
        outside.http.post("/sandbox/sms/inbound", json={"from": "+254711000111", "text": "STOP"})
        outside.reset()

        assert outside.texts() == fetch(outside) == []
        assert outside.ledger() == outside.inbox() == outside.http.get("/sandbox/push").json() == []
        assert outside.find_charge("c").status_code == 404
        assert MerchantAtB(outside).find_charge("b").status_code == 404
        assert [outside.charge(key="f", token="tok_flaky").status_code for _ in range(3)] == [503, 503, 200]
        outside.reset()

    with running(settings) as outside:
        assert outside.texts() == fetch(outside) == []
        assert outside.ledger() == outside.inbox() == outside.http.get("/sandbox/push").json() == []


def test_the_environment_moves_everything(monkeypatch: pytest.MonkeyPatch):
    standard = Settings()
    assert (standard.host, standard.app_port, standard.smtp_port) == ("127.0.0.1", 8009, 8025)
    assert standard.data_dir == Path("var/data/sandbox")
    assert (standard.webhook_url, standard.secrets_file) == ("", Path("var/secrets.json"))

    monkeypatch.setenv("APP_PORT", "9009")
    monkeypatch.setenv("SANDBOX_SMTP_PORT", "9025")
    monkeypatch.setenv("SANDBOX_DATA_DIR", "/elsewhere")
    monkeypatch.setenv("SANDBOX_SECRETS_FILE", "/nowhere.json")
    monkeypatch.setenv("SANDBOX_PAYMENT_B_KEY", "hush")
    monkeypatch.setenv("SANDBOX_PROVIDER_WEBHOOK_SECRETS", '{"a": "whsec_aHVzaA=="}')
    monkeypatch.setenv("SANDBOX_AFRICAS_TALKING_KEY", "hush at")
    monkeypatch.setenv("SANDBOX_LEGACY_SMS_KEY", "hush legacy")
    monkeypatch.setenv("SANDBOX_RECEIPT_SECRETS", '{"legacy": "hush"}')
    monkeypatch.setenv("SANDBOX_RECEIPT_URL", "http://localhost:8003/api/v1/receipts")

    moved = Settings()
    assert (moved.app_port, moved.smtp_port, moved.data_dir) == (9009, 9025, Path("/elsewhere"))
    assert moved.secret("payment-b-key") == "hush"
    assert moved.secret("provider-webhook-secrets") == '{"a": "whsec_aHVzaA=="}'
    assert (moved.secret("africas-talking-key"), moved.secret("legacy-sms-key")) == ("hush at", "hush legacy")
    assert moved.secret("receipt-secrets") == '{"legacy": "hush"}'
    assert (standard.receipt_url, moved.receipt_url) == ("", "http://localhost:8003/api/v1/receipts")
    assert "hush" not in repr(moved)
