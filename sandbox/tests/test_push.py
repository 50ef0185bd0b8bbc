"""The push provider."""

from typing import Any

import pytest

from .conftest import Outside


def test_a_notification_is_accepted_and_shown(outside: Outside):
    answer = outside.push(key="p-1")

    assert answer.status_code == 202
    [shown] = outside.http.get("/sandbox/push").json()
    assert shown.pop("at").endswith("Z")
    assert shown == {
        "id": answer.json()["id"],
        "type": "order_status",
        "orderId": "o-1",
        "status": "prepared",
        "customerEmail": "ada@example.com",
        "idempotencyKey": "p-1",
    }


def test_the_newest_notification_comes_first(outside: Outside):
    for order in ("o-1", "o-2", "o-3"):
        outside.push(orderId=order)

    assert [one["orderId"] for one in outside.http.get("/sandbox/push", params={"limit": 2}).json()] == ["o-3", "o-2"]


def test_one_key_is_one_notification(outside: Outside):
    assert outside.push(key="p").json() == outside.push(key="p").json()

    assert outside.push(key="p", status="shipped").status_code == 422
    assert len(outside.http.get("/sandbox/push").json()) == 1


def test_without_a_key_every_call_is_delivered(outside: Outside):
    assert outside.push().json() != outside.push().json()


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"type": "advert"}, "type"),
        ({"orderId": ""}, "orderId"),
        ({"status": None}, "status"),
        ({"customerEmail": "nobody"}, "customerEmail"),
    ],
)
def test_a_bad_notification_is_refused(outside: Outside, change: dict[str, Any], param: str):
    refused = outside.push(**change)

    assert (refused.status_code, refused.json()["error"]["param"]) == (422, param)
    assert outside.http.get("/sandbox/push").json() == []
