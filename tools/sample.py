"""The order that `make run` places: what a newcomer sees of Brewline first."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

import httpx

T = TypeVar("T")

WITHIN = 30.0
ORDER = {
    "items": [{"sku": "latte", "variation": "vanilla", "quantity": 1}],
    "location": "take-away",
    "currency": "USD",
    "payment": {"method": "credit_card", "token": "tok_ok"},
}


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came of the order. `mail` is None where none arrived in time."""

    email: str
    order: dict[str, Any]
    timeline: list[dict[str, Any]]
    mail: dict[str, Any] | None


def show(*, orders: str, sandbox: str) -> None:
    """Places it, and prints the order, its timeline and its e-mail; says so where one of them stays away."""
    try:
        told = place(orders=orders, sandbox=sandbox)
    except httpx.HTTPStatusError as refusal:
        print(f"\nThe sample order was refused ({refusal.response.status_code}): {refusal.response.text}")
    except httpx.HTTPError as error:
        print(f"\nThe sample order: {error or type(error).__name__}; see var/logs/")
    else:
        order = told.order
        print(f"\nOrder {order['id']}: {order['status']}, {order['total']['amount']} {order['total']['currency']}")
        show_timeline(told.timeline)
        show_mail(told.mail, told.email)


def place(*, orders: str, sandbox: str) -> Told:
    with httpx.Client(timeout=15, trust_env=False) as client:
        # An address of its own, so that the mail found is this order's.
        email = f"ada.{uuid4().hex[:6]}@example.com"
        customer = {"id": "c-1", "name": "Ada", "email": email, "phone": "+12025550123", "locale": "en"}
        client.headers["Authorization"] = f"Bearer {token(client, sandbox)}"
        placed = client.post(f"{orders}/api/v1/orders", json={**ORDER, "customer": customer}).raise_for_status().json()
        here = f"{orders}/api/v1/orders/{placed['id']}"
        inbox = f"{sandbox}/sandbox/inbox"
        return Told(
            email=email,
            order=until(lambda: settled(client.get(here).json())) or placed,
            timeline=client.get(f"{here}/timeline").json(),
            mail=until(lambda: next(iter(client.get(inbox, params={"to": email}).json()), None)),
        )


def token(client: httpx.Client, sandbox: str) -> str:
    """A user's, as the development issuer gives it to anybody."""
    asked = {"grant_type": "client_credentials", "client_id": "dev-user", "client_secret": "any", "role": "user"}
    answer = client.post(f"{sandbox}/oauth/token", data=asked)
    return str(answer.raise_for_status().json()["access_token"])


def until(look: Callable[[], T | None]) -> T | None:
    deadline = time.monotonic() + WITHIN
    while (seen := look()) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return seen


def settled(order: dict[str, Any]) -> dict[str, Any] | None:
    return None if order["status"] == "pending_payment" else order


def show_timeline(steps: list[dict[str, Any]]) -> None:
    row = "  {:24}{:14}{:14}{:>9}{:>10}"
    print(row.format("step", "phase", "status", "attempts", "ms"))
    for step in steps:
        words = [str(step[name]) for name in ("step", "phase", "status", "attempts")]
        took = step["durationMs"]
        print(row.format(*words, "" if took is None else f"{took:.0f}"))


def show_mail(mail: dict[str, Any] | None, email: str) -> None:
    if mail is None:
        print(f"\nNo e-mail to {email} within {WITHIN:.0f} s: see var/logs/notification-service.log")
        return
    print(f"\nE-mail to {email}: {mail['subject']}")
    print("\n".join(f"  | {line}" for line in mail["text"].strip().splitlines()))
