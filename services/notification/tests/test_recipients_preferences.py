"""Preferences: a user's own, staff's for everybody, never lost to whoever saves at the same time."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import Request

from chassis.changes.feed import Changes
from chassis.edge.auth import Caller, Role
from chassis.ids import now
from chassis.leases import Leases
from chassis.outbox import Outbox
from notification.announcements import Announcements
from notification.api import recipients
from notification.domain import ChannelName, ConcurrencyConflict
from notification.recipients.contacts import Contact, Contacts
from notification.recipients.preferences import Preference, Preferences, QuietHours
from notification.recipients.stop_words import start, stop
from notification.tables import changes, leases, outbox
from notification.unit_of_work import Units
from stack.fake_sidecar import FakeSidecar

NIGHT = Preference(time_zone="Africa/Nairobi", quiet_hours=QuietHours(start="22:00", end="07:00"))


@pytest.fixture
def within(db):
    async def run(work: Callable[[Preferences], Any], tenant: str = "default") -> Any:
        return await db.write(lambda conn: work(Preferences(conn, tenant)))

    return run


@pytest.fixture
async def call(db, routed):
    """A request of `sub`, by default staff's."""
    owners = Leases(db=db, table=leases)
    events = Outbox(db=db, table=outbox, leases=owners, sidecar=FakeSidecar(), pubsub="pubsub")
    told = Announcements(outbox=events, changes=Changes(db=db, table=changes, leases=owners))

    def caller(request: Request) -> Caller:
        sub, role = request.headers["x-sub"], Role(request.headers["x-role"])
        return Caller(tenant="default", tenant_name="", subject=sub, roles=frozenset({role}))

    app = routed(recipients.router, who=caller, units=Units(db, told))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:

        async def send(method: str, whose: str, body: Any = None, *, sub: str = "s-1", role: str = "staff"):
            headers = {"x-sub": sub, "x-role": role}
            return await client.request(method, f"/api/v1/recipients/{whose}/preferences", json=body, headers=headers)

        yield send


@pytest.fixture
async def contact(db):
    """c-1 is u-1's."""
    ada = Contact(id="c-1", owner="u-1", as_of=now())
    await db.write(lambda conn: Contacts(conn, "default").feed(ada))


# --- kept ---


async def test_whoever_never_said_anything_wants_everything(within):
    assert await within(lambda held: held.of("c-1")) == (Preference(), 0)


async def test_what_is_saved_is_what_is_read(within):
    assert await within(lambda held: held.save("c-1", NIGHT, 0)) == 1
    assert await within(lambda held: held.of("c-1")) == (NIGHT, 1)
    assert await within(lambda held: held.save("c-1", Preference(), 1)) == 2


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_a_save_over_another_ones_is_refused_with_the_version_that_is_now(within, version):
    await within(lambda held: held.save("c-1", NIGHT, 0))
    await within(lambda held: held.save("c-1", NIGHT, 1))
    with pytest.raises(ConcurrencyConflict) as conflict:
        await within(lambda held: held.save("c-1", Preference(), version))
    assert conflict.value.members == {"currentVersion": 2}
    assert await within(lambda held: held.of("c-1")) == (NIGHT, 2)


async def test_many_are_asked_for_at_once_and_only_those_of_the_tenant_answer(within):
    for recipient in ("c-1", "c-2"):
        await within(lambda held, one=recipient: held.save(one, NIGHT, 0))
    await within(lambda held: held.save("c-3", NIGHT, 0), "other")
    assert await within(lambda held: held.of_many({"c-1", "c-3", "c-4"})) == {"c-1": NIGHT}
    assert await within(lambda held: held.of_many(set())) == {}


async def test_a_change_that_meets_another_one_is_made_again_on_top_of_it(within):
    def meets(held: Preferences) -> Preference:
        met: list[bool] = []

        def wish(preference: Preference) -> Preference:
            if not met:
                met.append(True)
                held.save("c-1", NIGHT, 0)  # between the reading and the saving
            return preference.unsubscribed("offers", ChannelName.SMS)

        return held.change("c-1", wish)

    changed = await within(meets)
    assert changed == NIGHT.unsubscribed("offers", ChannelName.SMS)
    assert await within(lambda held: held.of("c-1")) == (changed, 2)


async def test_a_change_to_what_already_is_so_writes_nothing(within):
    for _ in range(2):
        await within(lambda held: held.change("c-1", lambda one: one.unsubscribed("offers", ChannelName.SMS)))
    assert (await within(lambda held: held.of("c-1")))[1] == 1
    await within(lambda held: held.change("c-2", lambda one: one))
    assert (await within(lambda held: held.of("c-2")))[1] == 0


# --- over HTTP ---


@pytest.mark.usefixtures("contact")
async def test_a_user_reads_and_sets_their_own(call):
    empty = await call("GET", "c-1", sub="u-1", role="user")
    assert (empty.status_code, empty.json()["version"], empty.json()["timeZone"]) == (200, 0, "UTC")
    wanted = empty.json() | {
        "timeZone": "Africa/Nairobi",
        "quietHours": {"start": "22:00", "end": "07:00"},
        "channels": {"email": {"enabled": True, "categories": {"offers": False}}},
    }
    saved = await call("PUT", "c-1", wanted, sub="u-1", role="user")
    assert (saved.status_code, saved.json()) == (200, wanted | {"version": 1})
    assert (await call("GET", "c-1")).json() == saved.json()


async def test_a_user_is_a_recipient_by_their_own_name_without_any_contact(call):
    saved = await call("PUT", "u-9", {"version": 0, "timeZone": "Asia/Tokyo"}, sub="u-9", role="user")
    assert saved.status_code == 200
    assert (await call("GET", "u-9")).json()["timeZone"] == "Asia/Tokyo"


@pytest.mark.usefixtures("contact")
@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PUT", {"version": 0})])
async def test_a_user_does_not_get_at_anybody_elses(call, method, body):
    others = await call(method, "c-1", body, sub="mallory", role="user")
    assert (others.status_code, others.json()["errorType"]) == (403, "not-owner")


@pytest.mark.parametrize("role", ["user", "staff"])
@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PUT", {"version": 0})])
async def test_there_are_none_of_somebody_unknown(call, role, method, body):
    unknown = await call(method, "nobody", body, role=role)
    assert (unknown.status_code, unknown.json()["errorType"]) == (404, "recipient-not-found")


@pytest.mark.usefixtures("contact")
async def test_of_two_who_save_the_second_is_told_the_version_that_is_now(call):
    await call("PUT", "c-1", {"version": 0, "timeZone": "Asia/Tokyo"})
    late = await call("PUT", "c-1", {"version": 0})
    assert (late.status_code, late.json()["currentVersion"]) == (409, 1)
    assert (await call("GET", "c-1")).json()["timeZone"] == "Asia/Tokyo"


PHONE = "+254711000111"


@pytest.fixture
async def texted(db):
    """c-1 has a phone now, from which STOP was said before."""
    ada = Contact(id="c-1", owner="u-1", phone=PHONE, as_of=now())

    def work(conn: sa.Connection) -> None:
        stop(conn, PHONE)
        Contacts(conn, "default").feed(ada)

    await db.write(work)


@pytest.mark.usefixtures("texted")
async def test_a_stop_is_shown_with_the_wishes_of_whoever_has_the_phone(call, db):
    assert (await call("GET", "c-1")).json()["stopped"] == ["sms"]
    await db.write(lambda conn: start(conn, PHONE))
    assert (await call("GET", "c-1")).json()["stopped"] == []


@pytest.mark.usefixtures("texted")
async def test_saving_a_form_does_not_undo_a_stop(call):
    saved = await call("PUT", "c-1", {"version": 0, "stopped": []})
    assert saved.json()["stopped"] == ["sms"]
    assert (await call("GET", "c-1")).json() == saved.json()


@pytest.mark.usefixtures("texted")
async def test_saving_a_form_keeps_no_stop_that_the_phone_has_undone(call, db):
    form = (await call("GET", "c-1")).json()
    await call("PUT", "c-1", form)
    await db.write(lambda conn: start(conn, PHONE))
    assert (await call("GET", "c-1")).json() == form | {"stopped": [], "version": 1}


@pytest.mark.usefixtures("contact")
async def test_saving_a_form_makes_no_stop(call):
    assert (await call("PUT", "c-1", {"version": 0, "stopped": ["sms", "email"]})).json()["stopped"] == []


@pytest.mark.usefixtures("contact")
@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"timeZone": "Mars/Olympus"}, "/timeZone"),
        ({"quietHours": {"start": "25:00", "end": "07:00"}}, "/quietHours/start"),
        ({"digests": {"offers": "noon"}}, "/digests/offers"),
        ({"quietHuors": {}}, "/quietHuors"),
        ({"channels": {"email": {"enabeld": False}}}, "/channels/email/enabeld"),
    ],
)
async def test_what_is_wrong_is_pointed_at(call, wrong, pointer):
    refused = await call("PUT", "c-1", {"version": 0} | wrong)
    assert refused.status_code == 422
    assert [one["pointer"] for one in refused.json()["errors"]] == [pointer]


@pytest.mark.usefixtures("contact")
async def test_a_put_says_which_version_it_has_read(call):
    refused = await call("PUT", "c-1", {})
    assert [one["pointer"] for one in refused.json()["errors"]] == ["/version"]
