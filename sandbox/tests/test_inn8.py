"""INN8, by its contract."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openapi_spec_validator
import pytest

from sandbox.inn8_rows import ENTITIES

CONTRACT = json.loads((Path(__file__).resolve().parents[2] / "contracts" / "inn8.json").read_text())
SECRET = "the-secret-of-inn8"


def token(outside, *, secret: str = SECRET, scope: str = "api.read api.write") -> httpx.Response:
    form = {"grant_type": "client_credentials", "client_id": "brewline", "client_secret": secret, "scope": scope}
    return outside.http.post("/oauth/token", data=form)


class Known:
    """INN8 as whoever has a token sees it."""

    def __init__(self, outside) -> None:
        self.http = outside.http
        self.headers = {"Authorization": f"Bearer {token(outside).json()['access_token']}"}

    def ask(self, entity: str, **params: Any) -> httpx.Response:
        return self.http.get(f"/{entity}", params=params, headers=self.headers)

    def all(self, entity: str, **params: Any) -> Iterator[dict[str, Any]]:
        cursor: dict[str, str] = {}
        while True:
            page = self.ask(entity, **(params | cursor)).json()
            yield from page["items"]
            if page["next"] is None:
                return
            cursor = {"cursor": page["next"]}

    def put(self, entity: str, row_id: str, **members: Any) -> dict[str, Any]:
        answer = self.http.put(f"/sandbox/inn8/{entity}/{row_id}", json=members)
        assert answer.status_code == 200
        return answer.json()


@pytest.fixture
def inn8(outside) -> Known:
    outside.http.put("/sandbox/inn8", json={"rows": {"clients": 30, "transactions": 40}})
    return Known(outside)


def test_the_contract_is_an_openapi_document():
    openapi_spec_validator.validate(CONTRACT)


@pytest.mark.parametrize("entity", ENTITIES)
def test_a_list_is_as_its_contract_has_it_and_every_parent_is_there(inn8, entity):
    reference = CONTRACT["paths"][f"/{entity}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(inn8.ask(entity).json(), {**reference, "components": CONTRACT["components"]})

    rows = list(inn8.all(entity))
    assert len({row["id"] for row in rows}) == len(rows) >= 30
    for member, parent in (("clientId", "clients"), ("portfolioId", "portfolios"), ("securityId", "securities")):
        named = {row[member] for row in rows if row.get(member)}
        assert named <= {row["id"] for row in inn8.all(parent)}


def test_the_rows_are_the_same_from_the_same_seed_and_others_from_another(inn8):
    first = list(inn8.all("clients"))
    inn8.http.put("/sandbox/inn8", json={"rows": {"clients": 30}, "seed": 9})
    other = list(inn8.all("clients"))
    inn8.http.put("/sandbox/inn8", json={"rows": {"clients": 30}})

    assert list(inn8.all("clients")) == first != other


def test_pages_lead_through_all_rows_by_the_time_of_their_last_change(inn8):
    rows = list(inn8.all("clients", limit=7))

    assert len(rows) == 30
    assert [row["updatedAt"] for row in rows] == sorted(row["updatedAt"] for row in rows)
    assert [row["id"] for row in inn8.all("clients", updatedSince=rows[20]["updatedAt"])] == [
        row["id"] for row in rows[20:]
    ]


def test_a_row_that_changes_while_it_is_read_comes_again_and_one_that_is_deleted_not_at_all(inn8):
    page = inn8.ask("clients", limit=10).json()
    changed, deleted = page["items"][3]["id"], "C-000025"
    inn8.put("clients", changed, fullName="Somebody Else")
    assert inn8.http.delete(f"/sandbox/inn8/clients/{deleted}").status_code == 204

    rest = list(inn8.all("clients", cursor=page["next"], limit=10))

    assert [row["fullName"] for row in rest if row["id"] == changed] == ["Somebody Else"]
    assert deleted not in {row["id"] for row in rest}
    assert len(rest) == 20
    assert inn8.http.delete(f"/sandbox/inn8/clients/{deleted}").status_code == 404


def test_a_late_commit_is_older_than_what_was_seen(inn8):
    newest = list(inn8.all("clients"))[-1]["updatedAt"]
    before = (datetime.fromisoformat(newest) - timedelta(seconds=5)).isoformat()

    late = inn8.put("clients", "C-LATE", updatedAt=before)

    assert late["updatedAt"] < newest
    assert "C-LATE" not in {row["id"] for row in inn8.all("clients", updatedSince=newest)}
    assert "C-LATE" in {row["id"] for row in inn8.all("clients", updatedSince=before)}


def test_a_token_is_for_who_knows_the_secret_and_only_for_inn8(outside, inn8):
    assert token(outside, secret="guessed").json()["error"] == "invalid_client"
    assert inn8.http.get("/clients").status_code == 401
    assert inn8.http.get("/clients", headers={"Authorization": "Bearer guessed"}).status_code == 401
    granted = token(outside).json()
    assert (granted["expires_in"], granted["scope"]) == (3600, "api.read api.write")
    writer = token(outside, scope="api.write").json()["access_token"]
    assert inn8.http.get("/clients", headers={"Authorization": f"Bearer {writer}"}).status_code == 403


def test_a_token_ends_when_it_was_said_or_when_it_is_forgotten(outside, inn8):
    inn8.http.put("/sandbox/inn8", json={"tokenSeconds": 1})
    short = Known(outside)
    assert short.ask("clients").status_code == 200
    deadline = time.monotonic() + 5
    while short.ask("clients").status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert inn8.ask("clients").status_code == 200
    assert inn8.http.delete("/sandbox/inn8/tokens").status_code == 204
    assert inn8.ask("clients").status_code == 401


def test_who_calls_too_often_is_told_when_to_come_again(inn8):
    inn8.http.put("/sandbox/inn8", json={"limit": {"calls": 2, "seconds": 60}})
    assert [inn8.ask("clients", limit=1).status_code for _ in range(3)] == [200, 200, 429]
    assert 0 < int(inn8.ask("clients").headers["retry-after"]) <= 61
    inn8.http.put("/sandbox/inn8", json={"limit": {"calls": 1, "seconds": 60, "retryAfter": "date"}})
    inn8.ask("clients", limit=1)
    wait = parsedate_to_datetime(inn8.ask("clients").headers["retry-after"]) - datetime.now(UTC)
    assert 50 < wait.total_seconds() < 63


def test_what_cannot_be_read_is_refused(inn8):
    for params in ({"limit": "many"}, {"updatedSince": "yesterday"}, {"cursor": "?"}, {"cursor": "W10="}):
        assert inn8.ask("clients", **params).status_code == 400


def test_every_fault_of_the_sandbox_hits_its_lists_and_not_its_tokens(outside, inn8):
    for mode, status in (("error", 503), ("throttle", 429)):
        outside.set_fault("inn8", mode)
        assert [inn8.ask(entity).status_code for entity in ENTITIES] == [status] * 4
        assert token(outside).status_code == 200
    outside.set_fault("inn8", "reset")
    with pytest.raises(httpx.TransportError):
        inn8.ask("clients")


def test_it_is_all_as_it_was_when_everything_is_forgotten(outside, inn8):
    inn8.put("clients", "C-000001", fullName="Somebody Else")
    outside.reset()

    assert inn8.http.get("/sandbox/inn8").json()["rows"]["clients"] == 2000
    assert next(Known(outside).all("clients", limit=1))["fullName"] != "Somebody Else"
