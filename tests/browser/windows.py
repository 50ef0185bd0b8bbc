"""What the browser tests do and see, in one place: the running Brewline, and windows on it."""

import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from cli import machine, vault
from stack.foundation import Foundation
from stack.local import HOST, free_port, wait_until
from stack.sidecars import Stack

ROOT = Path(__file__).resolve().parents[2]
TOOLS_BIN = ROOT / "tools" / "bin"
NODE_MODULES = TOOLS_BIN / "browser" / "node_modules"
PATIENCE = 20  # seconds: the machine may be busy

Window = webdriver.Chrome
Open = Callable[..., Window]


@dataclass(frozen=True, kw_only=True)
class Brewline:
    stack: Stack

    @property
    def home(self) -> str:
        """Where the pages are, as a browser has to spell it."""
        return self.stack.app_env("backoffice-service")["BACKOFFICE_PUBLIC_URL"]

    def client(self, app_id: str, role: str = "admin", *, sub: str = "", tenant: str = "default") -> httpx.Client:
        """Of a service's API; close it, or use it as a context."""
        form = {"grant_type": "client_credentials", "client_id": "tests", "client_secret": "any"}
        form |= {"role": role, "sub": sub or role, "tenant": tenant}
        answer = httpx.post(f"{self.stack.url('sandbox')}/oauth/token", data=form, trust_env=False)
        headers = {"Authorization": f"Bearer {answer.raise_for_status().json()['access_token']}"}
        return httpx.Client(base_url=self.stack.url(app_id), headers=headers, trust_env=False, timeout=30)

    def write(self, database: str, statement: str, *values: Any) -> None:
        """What can't be brought about in a test's time."""
        path = self.stack.run_dir / f"var/data/{database}.db"
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as conn, conn:
            assert conn.execute(statement, values).rowcount == 1

    def publish(self, topic: str, event: dict[str, Any]) -> None:
        headers = {"content-type": "application/cloudevents+json", "dapr-api-token": self.stack.dapr_token}
        publisher = "order-service" if topic == "orders" else "sandbox"  # which plays the other teams
        url = f"{self.stack.sidecar_url(publisher)}/v1.0/publish/pubsub/{topic}"
        httpx.post(url, json=event, headers=headers, trust_env=False).raise_for_status()

    def order(self, token: str = "tok_ok", *, prefer: str = "wait") -> dict[str, Any]:
        """Ada's; as the service answers, however it was paid."""
        body = {
            "customer": {"id": "c-1", "name": "Ada", "email": "ada@example.com", "locale": "en"},
            "items": [{"sku": "latte", "variation": "vanilla", "quantity": 2}],
            "location": "take-away",
            "payment": {"method": "credit_card", "token": token},
        }
        with self.client("order-service") as client:
            return client.post("/api/v1/orders", json=body, headers={"Prefer": prefer}).json()

    def paid(self) -> dict[str, Any]:
        """The same once it is paid: where a breaker that another test opened is open still, it waits for its money."""
        answer = self.order()
        path = f"/api/v1/orders/{answer.get('id') or answer['orderId']}"
        with self.client("order-service") as client:

            def order() -> dict[str, Any]:
                return client.get(path).json()

            wait_until(lambda: order()["payment"]["status"] == "succeeded", within=60, what="the payment")
            return order()

    def owed_for_good(self) -> str:
        """A cancelled order's id, as it stands after half an hour in which its money could not be given back."""
        order_id = self.paid()["id"]
        owed = "UPDATE orders SET status = 'cancelled', payment_status = 'refund_pending' WHERE id = ?"
        incident = (
            "INSERT INTO incidents (tenant, saga_id, step, at, error, stops)"
            " VALUES ('default', ?, 'refund', CURRENT_TIMESTAMP, 'refund failed', TRUE)"
        )
        self.write("order", owed, order_id)
        self.write("order", incident, order_id)
        return order_id


@contextmanager
def fault(brewline: Brewline, *parties: str, status: int = 503) -> Generator[None]:
    """What these answer, for a while."""
    with brewline.client("sandbox") as client:
        for party in parties:
            client.put(f"/sandbox/faults/{party}", json={"mode": "error", "status": status}).raise_for_status()
        try:
            yield
        finally:
            client.delete("/sandbox/faults").raise_for_status()


def stack_of(
    folder: Path,
    *,
    apps: Sequence[str] = (),
    components: Path = ROOT / "components",
    traced: bool = False,
    **env: str,
) -> Stack:
    """Not yet started: what `dapr.yaml` names, or those `apps` of it, each told `env` besides. `traced` has a
    receiver of traces, as `make up` has."""
    under = Foundation(traces=free_port() if traced else 0)
    if traced:
        env["BACKOFFICE_TRACES"] = f"receiver:http://{HOST}:{under.traces}"
    smtp = str(free_port())
    env = {"SANDBOX_SMTP_PORT": smtp, "NOTIFICATION_SMTP_PORT": smtp, **env}
    known = machine.apps()
    return Stack(
        apps=[replace(known[name].spec(env), ports=None) for name in apps or known],
        components=components,
        run_dir=folder,
        tools_bin=TOOLS_BIN,
        foundation=under,
        secrets_file=vault.secrets_file(folder / "var"),
    )


def wait(window: Window) -> WebDriverWait[Window]:
    """What is looked at may be drawn anew at that moment: it is looked at again."""
    passing = (StaleElementReferenceException, ElementNotInteractableException, ElementClickInterceptedException)
    return WebDriverWait(window, PATIENCE, poll_frequency=0.1, ignored_exceptions=passing)


def go(window: Window, brewline: Brewline, where: str) -> None:
    """To a page of the console."""
    window.get(f"{brewline.home}/ops#/{where}")


def see(window: Window, text: str) -> None:
    """Waits until the page says it."""
    wait(window).until(lambda page: text in page.find_element(By.TAG_NAME, "body").text, f"{text!r} is not there")


def click(window: Window, how: str, what: str) -> None:
    """The first element that is found, once it is there."""

    def done(page: Window) -> bool:
        page.find_element(how, what).click()
        return True

    wait(window).until(done, f"no {what} to click")


def press(window: Window, name: str) -> None:
    """The button or link of that name, once it is there."""
    click(window, By.XPATH, f"//button[normalize-space()={name!r}] | //a[normalize-space()={name!r}]")


def pick(window: Window, role: str, *, name: str = "", tenant: str = "default") -> None:
    """Who one is, on the sandbox's page."""
    click(window, By.CSS_SELECTOR, f"input[value={role}]")
    window.find_element(By.NAME, "sub").send_keys(name)
    (field := window.find_element(By.NAME, "tenant")).clear()
    field.send_keys(tenant)
    press(window, "Sign in")


def sign_in(
    brewline: Brewline, window: Window, role: str, *, name: str = "", tenant: str = "default", to: str = "/ops"
) -> Window:
    """As a person does, by the issuer's page; ends at `to`."""
    window.get(f"{brewline.home}/auth/sign-in?{urlencode({'to': to})}")
    pick(window, role, name=name, tenant=tenant)
    wait(window).until(lambda page: page.current_url == f"{brewline.home}{to}")
    _see_who(window)
    return window


def _see_who(window: Window) -> None:
    """Waits until the page knows who is there; where it can't tell now it says so, and a person asks again."""

    def known(page: Window) -> bool:
        for button in page.find_elements(By.CSS_SELECTOR, ".state.failed button"):
            button.click()
        return bool(page.find_elements(By.CSS_SELECTOR, ".masthead .who"))

    wait(window).until(known)
