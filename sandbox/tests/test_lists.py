"""What was recorded, a page at a time."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.lists import Listed

from .conftest import MerchantAtB, Outside, a_mail, running, settings_in
from .test_pages import page as page_for_people


def record(outside: Outside, number: int) -> None:
    """One of each kind."""
    outside.charge(orderId=f"o-{number}")
    outside.text("+254711000111", message=str(number))
    outside.push(orderId=f"o-{number}")
    outside.send_mail(subject=str(number))


def numbers(answer: httpx.Response) -> list[int]:
    """As `record` was given them, whatever the list."""
    entries: list[dict[str, Any]] = answer.json()
    told = [entry.get("orderId") or entry.get("subject") or entry["text"] for entry in entries]
    return [int(str(text).removeprefix("o-")) for text in told]


def pages_of(outside: Outside, path: str) -> list[list[int]]:
    """Every page from this one on, by the header that says where the next one is."""
    answer = outside.http.get(path)
    following = answer.links.get("next")
    return [numbers(answer), *(pages_of(outside, following["url"]) if following else [])]


@pytest.mark.parametrize("name", ["inbox", "sms", "push", "ledger"])
def test_the_pages_of_a_list_show_every_entry_once(outside: Outside, name: str):
    for number in range(5):
        record(outside, number)

    found = pages_of(outside, f"/sandbox/{name}?limit=2")

    assert found == ([[0, 1], [2, 3], [4]] if name == "ledger" else [[4, 3], [2, 1], [0]])
    assert numbers(outside.http.get(f"/sandbox/{name}")) == [number for part in found for number in part]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("inbox", {"to": "Bob@example.com"}),
        ("sms", {"to": "+254711000222"}),
        ("push", {"to": "bob@example.com"}),
        ("push", {"orderId": "o-7"}),
        ("ledger", {"orderId": "o-7"}),
    ],
)
def test_a_list_can_be_read_for_one(outside: Outside, name: str, wanted: dict[str, str]):
    record(outside, 1)
    outside.charge(orderId="o-7")
    outside.text("+254711000222", message="7")
    outside.push(orderId="o-7", customerEmail="bob@example.com")
    outside.send_mail(to="ada@example.com, bob@example.com", subject="7")
    record(outside, 2)

    answer = outside.http.get(f"/sandbox/{name}", params=wanted | {"limit": 1})

    assert numbers(answer) == [7]
    assert answer.links == {}
    assert outside.http.get(f"/sandbox/{name}", params=dict.fromkeys(wanted, "nobody")).json() == []


def test_what_comes_meanwhile_moves_no_page(outside: Outside):
    for subject in ("0", "1", "2"):
        outside.send_mail(subject=subject)
    first = outside.http.get("/sandbox/inbox?limit=1")
    outside.send_mail(subject="3")

    assert pages_of(outside, first.links["next"]["url"]) == [[1], [0]]


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=all", "cursor=-1", "cursor=last"])
def test_a_page_that_makes_no_sense_is_refused(outside: Outside, query: str):
    assert outside.http.get(f"/sandbox/inbox?{query}").status_code == 422


def test_the_ledger_is_one_of_all_providers_in_order_after_a_restart_too(tmp_path: Path):
    with running(settings_in(tmp_path)) as outside:
        for number in (0, 2):
            outside.charge(orderId=f"o-{number}")
            MerchantAtB(outside).charge(order=f"o-{number + 1}")
        before = outside.ledger()
    with running(settings_in(tmp_path)) as outside:
        assert outside.ledger() == before
    assert [entry["provider"] for entry in before] == ["a", "b", "a", "b"]


def test_a_page_is_never_longer_than_the_list_allows():
    listed = Listed(longest=3)
    for number in range(5):
        listed.add({"at": "", "number": number})

    assert [[json.loads(entry)["number"] for entry in listed.page(limit=limit).entries] for limit in (2, 4, None)] == [
        [4, 3],
        [4, 3, 2],
        [4, 3, 2],
    ]


def test_thousands_of_mails_are_looked_at_in_no_time(tmp_path: Path):
    """They are parsed when they come, and never again: a look keeps no payment waiting."""
    content = a_mail(subject="7", html="<p>It is ready.</p>" * 100).as_string()
    record = {"at": "2026-01-01T00:00:00Z", "from": "a@example.com", "to": ["ada@example.com"], "content": content}
    (tmp_path / "inbox.jsonl").write_text(f"{json.dumps(record)}\n" * 4_000)
    with running(settings_in(tmp_path)) as outside:
        looks = [outside.http.get("/sandbox/inbox") for _ in range(5)]

        assert min(look.elapsed for look in looks) < timedelta(milliseconds=100)
        assert [len(part) for part in pages_of(outside, "/sandbox/inbox")] == [2_000, 2_000]


def test_a_page_for_people_leads_to_the_older_ones(outside: Outside):
    for number in range(3):
        outside.push(orderId=f"o-{number}")

    first = page_for_people(outside, "/sandbox/push?limit=2")

    assert "2 of 3" in first
    [older] = re.findall(r'<a href="([^"]+)">Older</a>', first)
    last = page_for_people(outside, older.replace("&amp;", "&"))
    assert "<td>o-0</td>" in last
    assert ">Older<" not in last
