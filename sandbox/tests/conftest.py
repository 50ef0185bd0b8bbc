"""A whole sandbox, really listening, for every test; its records and faults are cleared in between."""

import contextlib
import itertools
import json
import logging
import smtplib
import socket
import sys
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from decimal import Decimal
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Protocol

import httpx
import orjson
import pytest

# These tests lie in a folder with the package's own name, which pytest's importlib mode then takes for the package.
if getattr(sys.modules.get("sandbox"), "__file__", None) is None:
    sys.modules.pop("sandbox", None)

from sandbox import keys  # only the lines above make it the real one
from sandbox.main import SandboxServer  # the same
from sandbox.settings import Settings  # the same

OK_CARD = "tok_ok"
_TRUST = httpx.create_ssl_context()  # reading the authorities takes as long as many a test
B_KEY = "the-key-of-b"
AT_KEY = "the-key-of-africas-talking"
LEGACY_KEY = "the-key-of-the-legacy-provider"
INN8_SECRET = "the-secret-of-inn8"
RECEIPT_SECRETS = {
    "africas-talking": "in the url?",
    "legacy": "whsec_bGVnYWN5IGxlZ2FjeSBsZWdhY3k=",
    "smtp": "whsec_c210cCBzbXRwIHNtdHAgc210cA==",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session", autouse=True)
def few_keys() -> Generator[None]:
    """A handful of keys, in turn: making one takes longer than most of the tests."""
    made = itertools.cycle([keys._new_key() for _ in range(8)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_new_key", lambda: next(made))
        yield


class Outside:
    """The running sandbox as its callers see it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{settings.app_port}", timeout=10, verify=_TRUST)

    def charge(self, *, key: str | None = None, token: str | None = OK_CARD, **fields: Any) -> httpx.Response:
        body = {"orderId": "o-1", "amount": Decimal("9.00"), "currency": "USD", "paymentMethod": "credit_card"}
        if token:
            body["cardToken"] = token
        return self.http.post("/api/v1/payment", content=exact(body | fields), headers=_keyed(key))

    def refund(self, transaction_id: str, amount: str, *, key: str | None = None) -> httpx.Response:
        path = f"/api/v1/payment/{transaction_id}/refunds"
        return self.http.post(path, content=exact({"amount": Decimal(amount)}), headers=_keyed(key))

    def find_charge(self, key: str) -> httpx.Response:
        return self.http.get("/api/v1/payment", params={"key": key})

    def push(self, *, key: str | None = None, **fields: Any) -> httpx.Response:
        body = {"type": "order_status", "orderId": "o-1", "status": "prepared", "customerEmail": "ada@example.com"}
        return self.http.post("/api/v1/notification", json=body | fields, headers=_keyed(key))

    def text(self, *to: str, key: str = AT_KEY, **fields: str) -> httpx.Response:
        """A text by Africa's Talking."""
        form = {"username": "brewline", "to": ",".join(to or ("+254711000111",)), "message": "It is ready."}
        return self.http.post("/version1/messaging", data=form | fields, headers={"apiKey": key})

    def legacy_text(self, to: str = "+254711000111", *, key: str | None = None, **fields: str) -> httpx.Response:
        body = {"PhoneNumber": to, "MessageText": "It is ready.", "Sender": "Brewline"}
        return self.http.post("/legacy/sms/send", json=body | fields, headers={"X-Api-Key": LEGACY_KEY} | _keyed(key))

    def texts(self, **params: str | int) -> list[dict[str, Any]]:
        return self.http.get("/sandbox/sms", params=params).json()

    def direct(self, **urls: str) -> dict[str, str]:
        """Sends receipts there; hyphens are written as underscores."""
        answer = self.http.put("/sandbox/receipts", json={name.replace("_", "-"): url for name, url in urls.items()})
        assert answer.status_code == 200
        return answer.json()

    def set_fault(self, target: str, mode: str, **fields: Any) -> httpx.Response:
        return self.http.put(f"/sandbox/faults/{target}", json={"mode": mode, **fields})

    def send_mail(self, *, to: str = "ada@example.com", **fields: str) -> None:
        """Delivers a mail; raises what smtplib raises."""
        self.send_message(a_mail(to=to, **fields))

    def send_message(self, message: EmailMessage) -> None:
        with self.smtp() as client:
            client.send_message(message)

    @contextlib.contextmanager
    def smtp(self) -> Generator[smtplib.SMTP]:
        client = smtplib.SMTP("127.0.0.1", self.settings.smtp_port, timeout=10)
        try:
            yield client
        finally:
            client.close()

    def inbox(self, **params: str | int) -> list[dict[str, Any]]:
        return self.http.get("/sandbox/inbox", params=params).json()

    def ledger(self, **params: str) -> list[dict[str, Any]]:
        return self.http.get("/sandbox/ledger", params=params).json()

    def reset(self) -> None:
        assert self.http.delete("/sandbox/faults").status_code == 204
        assert self.http.delete("/sandbox/data").status_code == 204
        self.direct()


@dataclass(frozen=True)
class Said:
    """What a provider said of a charge, in whichever dialect."""

    approved: bool
    transaction_id: str | None
    reason: str | None


class Merchant(Protocol):
    """A merchant at one of the two providers: the same wishes in two dialects. Amounts are in major units."""

    name: str
    path: str
    target: str

    def charge(
        self,
        *,
        key: str | None = None,
        token: str | None = OK_CARD,
        order: str = "o-1",
        amount: str = "9.00",
        currency: str = "USD",
    ) -> httpx.Response: ...

    def refund(self, transaction_id: str, amount: str, *, key: str | None = None) -> httpx.Response: ...

    def find_charge(self, key: str) -> httpx.Response: ...

    def find_refund(self, key: str) -> httpx.Response: ...

    def said(self, answer: httpx.Response) -> Said: ...

    def error(self, answer: httpx.Response) -> tuple[str, str | None]:
        """The code and the field."""
        ...


class MerchantAtA:
    name, path, target = "a", "/api/v1/payment", "payment-a"

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    def charge(
        self,
        *,
        key: str | None = None,
        token: str | None = OK_CARD,
        order: str = "o-1",
        amount: str = "9.00",
        currency: str = "USD",
    ) -> httpx.Response:
        return self._outside.charge(key=key, token=token, orderId=order, amount=Decimal(amount), currency=currency)

    def refund(self, transaction_id: str, amount: str, *, key: str | None = None) -> httpx.Response:
        return self._outside.refund(transaction_id, amount, key=key)

    def find_charge(self, key: str) -> httpx.Response:
        return self._outside.find_charge(key)

    def find_refund(self, key: str) -> httpx.Response:
        return self._outside.http.get(f"{self.path}/refunds", params={"key": key})

    def said(self, answer: httpx.Response) -> Said:
        body = answer.json()
        return Said(body["status"] == "approved", body["transactionId"], body["reason"])

    def error(self, answer: httpx.Response) -> tuple[str, str | None]:
        body = answer.json()["error"]
        return body["code"], body["param"]


class MerchantAtB:
    name, path, target = "b", "/api/payments", "payment-b"

    def __init__(self, outside: Outside) -> None:
        self._http = outside.http

    def charge(
        self,
        *,
        key: str | None = None,
        token: str | None = OK_CARD,
        order: str = "o-1",
        amount: str = "9.00",
        currency: str = "USD",
    ) -> httpx.Response:
        body = {"amount": Decimal(amount), "currency": currency, "description": f"Order {order}"}
        return self.post(body | ({"cardToken": token} if token else {}), key=key)

    def post(self, body: object, *, key: str | None = None) -> httpx.Response:
        return self._http.post(self.path, content=exact(body), headers=_at_b(key))

    def refund(self, transaction_id: str, amount: str, *, key: str | None = None) -> httpx.Response:
        path = f"{self.path}/{transaction_id}/refunds"
        return self._http.post(path, content=exact({"amount": Decimal(amount)}), headers=_at_b(key))

    def find_charge(self, key: str) -> httpx.Response:
        return self._http.get(self.path, params={"key": key}, headers=_at_b())

    def find_refund(self, key: str) -> httpx.Response:
        return self._http.get(f"{self.path}/refunds", params={"key": key}, headers=_at_b())

    def said(self, answer: httpx.Response) -> Said:
        body = answer.json()
        return Said(body["success"], body["transactionId"], body["errorMessage"])

    def error(self, answer: httpx.Response) -> tuple[str, str | None]:
        body = answer.json()
        return body["errorCode"], body["field"]


MERCHANTS: dict[str, type[MerchantAtA | MerchantAtB]] = {"a": MerchantAtA, "b": MerchantAtB}


def exact(body: object) -> bytes:
    """JSON in which a Decimal is a number, digit for digit."""
    return orjson.dumps(body, default=lambda number: orjson.Fragment(f"{number:f}"))


def _at_b(key: str | None = None) -> dict[str, str]:
    return {"Authorization": f"Bearer {B_KEY}"} | _keyed(key)


def _keyed(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Idempotency-Key": key}


def a_mail(
    *,
    to: str = "ada@example.com",
    subject: str = "Your order",
    text: str = "It is ready.\n",
    html: str = "",
    message_id: str = "<n-1@brewline>",
) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Brewline <hello@brewline.example>"
    message["To"] = to
    message["Subject"] = subject
    message["Message-ID"] = message_id
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    return message


@contextlib.contextmanager
def running(settings: Settings) -> Generator[Outside]:
    """A sandbox on a thread of this process, ready when this yields, gone and its files free afterwards."""
    server = SandboxServer(settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the sandbox did not start"
            time.sleep(0.005)
        outside = Outside(settings)
        with outside.http:
            yield outside
    finally:
        server.should_exit = True
        thread.join()


def settings_in(data_dir: Path, **others: str) -> Settings:
    """Nothing of this machine's own secrets."""
    known: dict[str, Any] = {
        "payment_b_key": B_KEY,
        "africas_talking_key": AT_KEY,
        "legacy_sms_key": LEGACY_KEY,
        "receipt_secrets": json.dumps(RECEIPT_SECRETS),
        "inn8_client_secret": INN8_SECRET,
        "secrets_file": data_dir / "secrets.json",
    }
    known |= others
    return Settings(app_port=free_port(), smtp_port=free_port(), data_dir=data_dir, **known)


@pytest.fixture(scope="session")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    with running(settings_in(tmp_path_factory.mktemp("sandbox"))) as outside:
        yield outside


@pytest.fixture
def outside(_shared: Outside, caplog: pytest.LogCaptureFixture) -> Iterator[Outside]:
    """The shared sandbox with nothing recorded and nothing wrong; no test may make it log an error."""
    _shared.reset()
    yield _shared
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


@pytest.fixture(params=MERCHANTS)
def merchant(request: pytest.FixtureRequest, outside: Outside) -> Merchant:
    """One at each provider in turn."""
    return MERCHANTS[request.param](outside)


@pytest.fixture
def at_b(outside: Outside) -> MerchantAtB:
    return MerchantAtB(outside)
