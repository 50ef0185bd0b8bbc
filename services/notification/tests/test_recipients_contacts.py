"""Contacts: what events may tell of a person, and what only staff and the person's own orders may."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import Request
from sqlalchemy.event import listen

from chassis.changes.feed import Changes
from chassis.edge.auth import Caller, Role
from chassis.ids import now
from chassis.leases import Leases
from chassis.outbox import Outbox
from notification.announcements import Announcements
from notification.api import recipients
from notification.domain import ChannelName, UnknownRecipient
from notification.recipients.contacts import Contact, Contacts
from notification.tables import changes, leases, outbox
from notification.unit_of_work import Units
from stack.fake_sidecar import FakeSidecar

AT = now() - timedelta(hours=1)
ADA = Contact(
    id="c-1", owner="u-1", name="Ada", email="Ada@example.com", phone="+1 202 555 0123", locale="pt_br", as_of=AT
)


@pytest.fixture
def units(db):
    owners = Leases(db=db, table=leases)
    events = Outbox(db=db, table=outbox, leases=owners, sidecar=FakeSidecar(), pubsub="pubsub")
    return Units(db, Announcements(outbox=events, changes=Changes(db=db, table=changes, leases=owners)))


@pytest.fixture
def within(db):
    """What a unit of work answers, over the contacts of a tenant."""

    async def run(work: Callable[[Contacts], Any], tenant: str = "default") -> Any:
        return await db.write(lambda conn: work(Contacts(conn, tenant)))

    return run


@pytest.fixture
def feed(within):
    """Tells news of Ada, `minutes` after the first; the contact as it is then."""

    async def tell(minutes: float = 0, tenant: str = "default", **told: Any) -> Contact:
        at: datetime = AT + timedelta(minutes=minutes)
        known: dict[str, Any] = {"id": ADA.id, "owner": ADA.owner, "as_of": at}
        news = ADA if not told and not minutes else Contact(**(known | told))
        await within(lambda theirs: theirs.feed(news), tenant)
        return await within(lambda theirs: theirs.get(news.id), tenant)

    return tell


@pytest.fixture
async def client(units, routed):
    def staff(request: Request) -> Caller:
        tenant = request.headers.get("x-tenant", "default")
        return Caller(tenant=tenant, tenant_name=tenant, subject="s-1", roles=frozenset({Role.STAFF}))

    app = routed(recipients.router, who=staff, units=units)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


# --- what events tell ---


async def test_a_customer_becomes_a_contact_with_a_phone_and_a_language_that_can_be_used(feed):
    known = await feed()
    assert (known.name, known.email, known.phone, known.locale) == ("Ada", "Ada@example.com", "+12025550123", "pt-BR")
    assert (known.owner, known.version, known.as_of) == ("u-1", 1, AT)


async def test_a_contact_knows_by_what_a_channel_reaches_it(feed):
    known = await feed()
    assert known.address(ChannelName.SMS) == "+12025550123"
    assert known.address(ChannelName.EMAIL) == "Ada@example.com"


async def test_the_same_news_again_changes_nothing(feed):
    assert await feed() == await feed()


async def test_equal_news_from_later_is_no_new_version_and_shuts_out_what_is_between(feed):
    await feed()
    later = await feed(minutes=9, name="Ada", email="Ada@example.com")
    assert (later.version, later.as_of) == (1, AT + timedelta(minutes=9))
    assert (await feed(minutes=5, name="Adele")).name == "Ada"


async def test_older_news_does_not_overwrite_newer(feed):
    await feed(minutes=5, name="Ada Lovelace")
    assert (await feed(minutes=1, name="Ada")).name == "Ada Lovelace"


async def test_what_news_leaves_out_stays(feed):
    await feed()
    known = await feed(minutes=1, email="new@example.com")
    assert (known.name, known.email, known.phone, known.locale) == ("Ada", "new@example.com", "+12025550123", "pt-BR")
    assert known.version == 2


async def test_what_is_no_address_overwrites_none(feed):
    await feed()
    known = await feed(minutes=1, phone="not a phone", email="a@example.com\r\nBcc: b@example.com", locale="!?")
    assert (known.email, known.phone, known.locale) == ("Ada@example.com", "+12025550123", "pt-BR")


async def test_what_is_too_long_for_its_column_is_no_reason_to_lose_the_event(feed):
    known = await feed(name="n" * 2000 + "\x00", email="e" * 400 + "@example.com", locale="en-" + "x" * 80)
    assert (len(known.name), known.email) == (1000, "")


async def test_an_order_with_somebody_elses_customer_id_redirects_nobodys_messages(feed):
    await feed()
    assert (await feed(minutes=1, owner="mallory", email="mallory@example.com", phone="+12025550199")) == await feed()


async def test_nobodys_contact_is_not_changed_by_an_order_of_nobody(feed):
    await feed(owner="")
    assert (await feed(minutes=1, owner="", email="mallory@example.com")).email == ""


# --- whom to believe: an API consumer may have named somebody else's customer id before anybody else did ---

MALLORY: dict[str, Any] = {"owner": "mallory", "name": "M", "email": "m@example.com", "phone": "+12025550199"}
KNOWN: dict[str, Any] = {"owner": "c-1", "name": "Ada", "email": "ada@example.com", "trusted": True}


def told_of(contact: Contact) -> tuple[str, ...]:
    return contact.owner, contact.name, contact.email, contact.phone, contact.locale


@pytest.mark.parametrize("minutes", [5, -5], ids=["newer", "older"])
async def test_trusted_news_takes_over_the_whole_of_what_was_only_claimed(feed, minutes):
    claimed = await feed(**MALLORY, locale="de")
    known = await feed(minutes=minutes, **KNOWN)
    assert told_of(known) == ("c-1", "Ada", "ada@example.com", "", "")
    assert (known.version, known.as_of) == (claimed.version + 1, AT + timedelta(minutes=minutes))


@pytest.mark.parametrize("minutes", [5, -5], ids=["newer", "older"])
@pytest.mark.parametrize("owner", ["mallory", "c-1"])
async def test_what_is_only_claimed_changes_nothing_of_what_is_known(feed, minutes, owner):
    known = await feed(**KNOWN)
    assert await feed(minutes=minutes, **(MALLORY | {"owner": owner})) == known


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
async def test_in_whatever_order_they_come_the_newest_that_is_known_stands(feed, within, order):
    news = [
        {"minutes": 1, **MALLORY},
        {"minutes": 2, **KNOWN, "email": "old@example.com"},
        {"minutes": 3, **KNOWN},
        {"minutes": 4, **MALLORY},
    ]
    for number in order:
        await feed(**news[number])
    last = await within(lambda theirs: theirs.get(ADA.id))
    assert told_of(last) == ("c-1", "Ada", "ada@example.com", "", "")


async def test_trusted_news_leaves_what_is_known_and_it_does_not_tell(feed):
    await feed(**KNOWN)
    known = await feed(minutes=1, owner="c-1", phone="+12025550123", trusted=True)
    assert told_of(known) == ("c-1", "Ada", "ada@example.com", "+12025550123", "")


async def test_what_staff_has_said_is_known(client, feed):
    await feed(**MALLORY)
    await client.put("/api/v1/recipients/c-1", json=PUT | {"version": 1})
    assert (await feed(minutes=24 * 60, **MALLORY)).email == PUT["email"]
    assert (await feed(minutes=24 * 60, **KNOWN)).email == "ada@example.com"


async def test_whoever_is_known_by_an_address_comes_before_who_only_claims_it(feed, within):
    await feed(id="a-0", email="ada@example.com", owner="mallory")
    await feed(id="c-1", email="ada@example.com", trusted=True)
    found = await within(lambda theirs: theirs.by_email("ada@example.com"))
    assert [contact.id for contact in found] == ["c-1", "a-0"]


async def test_older_news_is_older_from_a_trusted_source_too(feed):
    await feed(minutes=5, email="ada@example.com", trusted=True)
    assert (await feed(minutes=1, email="old@example.com", trusted=True)).email == "ada@example.com"


async def test_a_clock_that_is_ahead_does_not_shut_out_what_comes_after_it(within):
    ahead = Contact(id="c-1", owner="u-1", name="Ada", as_of=now() + timedelta(days=365))
    await within(lambda theirs: theirs.feed(ahead))
    assert (await within(lambda theirs: theirs.get("c-1"))).as_of <= now()


async def test_the_same_id_in_two_tenants_is_two_people(feed, within):
    await feed()
    await feed(tenant="other", name="Bea")
    assert (await within(lambda theirs: theirs.get("c-1"))).name == "Ada"
    with pytest.raises(UnknownRecipient):
        await within(lambda theirs: theirs.get("c-1"), "third")


async def test_an_address_finds_all_who_have_it_however_it_is_written(feed, within):
    await feed()
    await feed(id="c-2", email="ADA@EXAMPLE.COM")
    await feed(tenant="other", email="ada@example.com")
    found = await within(lambda theirs: theirs.by_email("aDA@example.com"))
    assert [contact.id for contact in found] == ["c-1", "c-2"]


# --- what staff says ---

PUT = {"name": "Bea", "email": "bea@example.com", "phone": "+44 121 234 5678", "groups": ["branch:B-1", "night"]}


async def test_staff_makes_a_recipient_with_its_groups(client):
    made = await client.put("/api/v1/recipients/b-1", json=PUT | {"locale": "en_GB", "version": 0})
    assert made.status_code == 200
    told = made.json()
    assert told.pop("asOf")
    assert told == PUT | {"phone": "+441212345678", "locale": "en-GB", "id": "b-1", "owner": "", "version": 1}
    assert (await client.get("/api/v1/recipients/b-1")).json() == made.json()


async def test_a_recipients_language_is_taken_as_a_phone_says_it(client):
    phones = "en-US-u-fw-mon-hc-h23-ms-metric-mu-celsius"
    made = await client.put("/api/v1/recipients/b-1", json=PUT | {"locale": phones, "version": 0})
    assert (made.status_code, made.json()["locale"]) == (200, "en-US")


async def test_a_branch_is_its_members_and_groups_are_set_in_whole(client, within):
    for number in (2, 1):
        await client.put(f"/api/v1/recipients/b-{number}", json=PUT | {"version": 0})
    assert [one.id for one in await within(lambda theirs: theirs.members("branch:B-1"))] == ["b-1", "b-2"]
    await client.put("/api/v1/recipients/b-1", json=PUT | {"groups": ["night", "night"], "version": 1})
    assert [one.id for one in await within(lambda theirs: theirs.members("branch:B-1"))] == ["b-2"]
    assert await within(lambda theirs: theirs.groups_of(["b-1", "nobody"])) == {"b-1": ["night"]}
    assert await within(lambda theirs: theirs.members("branch:B-1"), "other") == []


async def test_of_two_who_edit_the_second_is_told_the_version_that_is_now(client):
    for version in (0, 1):
        await client.put("/api/v1/recipients/b-1", json=PUT | {"version": version})
    late = await client.put("/api/v1/recipients/b-1", json=PUT | {"name": "Late", "groups": [], "version": 1})
    assert (late.status_code, late.json()["errorType"]) == (409, "concurrency-conflict")
    assert late.json()["currentVersion"] == 2
    kept = (await client.get("/api/v1/recipients/b-1")).json()
    assert (kept["name"], kept["groups"]) == ("Bea", PUT["groups"])


async def test_making_one_that_is_there_and_changing_one_that_is_not_are_conflicts(client):
    await client.put("/api/v1/recipients/b-1", json=PUT | {"version": 0})
    again = await client.put("/api/v1/recipients/b-1", json=PUT | {"version": 0})
    absent = await client.put("/api/v1/recipients/b-2", json=PUT | {"version": 3})
    assert (again.status_code, again.json()["currentVersion"]) == (409, 1)
    assert (absent.status_code, absent.json()["currentVersion"]) == (409, 0)


async def test_staffs_word_holds_until_something_newer_is_told(client, feed):
    await feed()
    await client.put("/api/v1/recipients/c-1", json=PUT | {"version": 1})
    assert (await feed(minutes=1, name="Old", trusted=True)).name == "Bea"
    assert (await feed(minutes=24 * 60, name="Newer", trusted=True)).name == "Newer"


async def test_staff_may_empty_a_field(client, feed):
    await feed()
    emptied = (await client.put("/api/v1/recipients/c-1", json={"name": "Ada", "version": 1})).json()
    assert (emptied["email"], emptied["phone"], emptied["owner"]) == ("", "", "u-1")


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"phone": "+1 202 55"}, "/phone"),
        ({"phone": "555 0123"}, "/phone"),
        ({"email": "ada"}, "/email"),
        ({"email": "ada@example.com\nBcc: x@example.com"}, "/email"),
        ({"email": "ada,bea@example.com"}, "/email"),
        ({"email": '"ada"@example.com'}, "/email"),
        ({"email": "ada@localhost"}, "/email"),
        ({"email": "a\u200bda@example.com"}, "/email"),
        ({"email": "ada@example.com\u202e"}, "/email"),
        ({"email": "ada@exam\u00adple.com"}, "/email"),
        ({"email": "<ada>@example.com"}, "/email"),
        ({"email": "ada@exa;mple.com"}, "/email"),
        ({"locale": "klingon!"}, "/locale"),
        ({"groups": ["a\x00b"]}, "/groups/0"),
        ({"version": -1}, "/version"),
        ({"version": 2**31}, "/version"),
        ({"nickname": "Bee"}, "/nickname"),
    ],
)
async def test_what_is_wrong_is_pointed_at_and_not_repeated(client, wrong, pointer):
    refused = await client.put("/api/v1/recipients/b-1", json=PUT | {"version": 0} | wrong)
    assert refused.status_code == 422
    assert [one["pointer"] for one in refused.json()["errors"]] == [pointer]
    assert not any(str(value) in refused.text for value in wrong.values() if isinstance(value, str))


async def test_an_unknown_recipient_is_not_found(client):
    missing = await client.get("/api/v1/recipients/nobody")
    assert (missing.status_code, missing.json()["errorType"]) == (404, "recipient-not-found")


async def test_pages_hold_everybody_once_in_order(client, feed):
    for number in (3, 1, 2, 5, 4):
        await feed(id=f"c-{number}", name=str(number))
    await feed(id="c-0", tenant="other")
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = (await client.get("/api/v1/recipients", params=query)).json()
        seen += [one["id"] for one in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == ["c-1", "c-2", "c-3", "c-4", "c-5"]


async def test_a_list_can_be_of_one_group(client):
    await client.put("/api/v1/recipients/b-1", json=PUT | {"version": 0})
    await client.put("/api/v1/recipients/b-2", json=PUT | {"groups": [], "version": 0})
    page = (await client.get("/api/v1/recipients", params={"group": "night"})).json()
    assert [(one["id"], one["groups"]) for one in page["items"]] == [("b-1", PUT["groups"])]
    elsewhere = await client.get("/api/v1/recipients", params={"group": "night"}, headers={"x-tenant": "other"})
    assert elsewhere.json() == {"items": [], "next": None}


async def test_the_statement_of_every_order_event_is_one(within):
    seen: list[str] = []

    def work(theirs: Contacts) -> None:
        conn: sa.Connection = theirs._conn
        listen(conn, "before_cursor_execute", lambda *told: seen.append(told[2]))
        theirs.feed(ADA)

    await within(work)
    assert len(seen) == 1
