"""The order that `brewline order` and `brewline run` place, and what came of it: what a newcomer sees first."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar
from uuid import uuid4

import httpx

from stack.local import LocalError

T = TypeVar("T")

WITHIN = 30.0


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came of the order. `mail` is None where none arrived in time."""

    email: str
    order: dict[str, Any]
    timeline: list[dict[str, Any]]
    mail: dict[str, Any] | None


def order(
    *, sku: str = "latte", variation: str = "vanilla", quantity: int = 1, where: str = "take-away", card: str = "tok_ok"
) -> dict[str, Any]:
    """A request's body, with an e-mail address of its own, so that the mail found is this order's."""
    email = f"ada.{uuid4().hex[:6]}@example.com"
    return {
        "customer": {"id": "c-1", "name": "Ada", "email": email, "phone": "+12025550123", "locale": "en"},
        "items": [{"sku": sku, "variation": variation, "quantity": quantity}],
        "location": where,
        "currency": "USD",
        "payment": {"method": "credit_card", "token": card},
    }


def show(*, orders: str, sandbox: str, body: dict[str, Any] | None = None, as_json: bool = False) -> int:
    """Places it, and prints the order, its timeline and its e-mail; says so where one of them stays away. 1 when it was
    refused."""
    try:
        told = place(orders=orders, sandbox=sandbox, body=body)
    except httpx.HTTPStatusError as refusal:
        answer = refusal.response
        print(answer.text if as_json else refused(answer))
        return 1
    except httpx.ConnectError:
        raise LocalError("nothing runs here: `brewline up` starts it") from None
    except httpx.HTTPError as error:
        raise LocalError(f"the order: {error or type(error).__name__}; see `brewline logs`") from None
    if as_json:
        print(json.dumps(asdict(told)))
        return 0
    placed = told.order
    print(f"\nOrder {placed['id']}: {placed['status']}, {placed['total']['amount']} {placed['total']['currency']}")
    show_timeline(told.timeline)
    show_mail(told.mail, told.email)
    return 0


def refused(answer: httpx.Response) -> str:
    """In words, where it is a problem document."""
    if not answer.headers.get("content-type", "").endswith("json"):
        return f"The order was refused ({answer.status_code}): {answer.text}"
    problem = answer.json()
    known = f"\n`brewline why {problem['orderId']}` says more." if "orderId" in problem else ""
    return f"The order was refused ({answer.status_code} {problem['errorType']}): {problem['detail']}{known}"


def place(*, orders: str, sandbox: str, body: dict[str, Any] | None = None) -> Told:
    body = body or order()
    email = body["customer"]["email"]
    with httpx.Client(timeout=15, trust_env=False) as client:
        client.headers["Authorization"] = f"Bearer {token(client, sandbox)}"
        placed = client.post(f"{orders}/api/v1/orders", json=body).raise_for_status().json()
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
