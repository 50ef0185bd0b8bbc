"""An order names its customer as its caller typed it: what can, and can't, be had by naming somebody else."""

import pytest

from chassis.ids import new_id
from stack.eventually import eventually

HISTORY, RESETS = "/api/v1/notifications", "/api/v1/password-resets"
LOCAL = "http://localhost:8003"
NO_MAIL = {"version": 0, "channels": {"email": {"enabled": False}}}


def recipient(contact_id):
    return f"/api/v1/recipients/{contact_id}"


@pytest.fixture
def mallory(issuer):
    return issuer.bearer("user", sub="mallory")


@pytest.fixture
def order(client, event):
    async def tell(kind="order.confirmed.v1", *, owner, **customer):
        delivered = event(kind, orderId=new_id(), ownerId=owner, customer={"name": "X", "locale": "en"} | customer)
        assert (await client.post("/events/orders", json=delivered)).json() == {"status": "SUCCESS"}

    return tell


@pytest.fixture
def ended(client):
    """The history, once nothing of it is under way."""

    async def look(count):
        items = (await client.get(HISTORY)).json()["items"]
        over = not any(item["status"] in {"queued", "sending"} for item in items)
        return items if over and len(items) >= count else None

    return lambda count=1: eventually(lambda: look(count), every=0.02)


async def test_the_link_in_a_mail_to_another_address_changes_nobodys_wishes(client, order, inbox, ended):
    await client.put(recipient("c-1"), json={"name": "Ada", "email": "ada@example.com", "version": 0})
    await order(owner="mallory", id="c-1", email="mallory@example.com")
    (told,) = await ended()
    link = inbox.mails[0]["List-Unsubscribe"].strip("<>").removeprefix(LOCAL)
    assert (await client.post(link, headers={"Authorization": ""})).status_code == 200

    wishes = (await client.get(recipient("c-1") + "/preferences")).json()
    assert (wishes["version"], wishes["channels"]) == (0, {})
    assert told["recipientId"].startswith("claimed-")


@pytest.mark.parametrize("wishes", [{}, NO_MAIL])
async def test_an_order_under_anothers_id_shows_nothing_of_whether_a_guessed_address_is_theirs(
    client, order, mallory, ended, wishes
):
    await client.put(recipient("c-1"), json={"name": "Ada", "email": "ada@example.com", "locale": "de", "version": 0})
    if wishes:
        await client.put(recipient("c-1") + "/preferences", json=wishes)
    for guess in ("ada@example.com", "eve@example.com"):
        await order(owner="mallory", id="c-1", email=guess, locale="")
    await ended(2)

    shown = (await client.get(HISTORY, headers=mallory)).json()["items"]
    its_own = {"id", "eventId", "subjectId", "createdAt", "sentAt", "deliveredAt"}
    first, second = ({name: item[name] for name in item.keys() - its_own} for item in shown)
    words = [item["content"].replace(item["subjectId"], "") for item in shown]
    assert first | {"content": words[0]} == second | {"content": words[1]}
    assert first["status"] == "sent"


@pytest.mark.parametrize("more", [{}, {"phone": "+12025550123"}, {"email": "another@example.com"}])
async def test_an_opt_out_holds_whatever_else_an_order_of_theirs_tells_of_them(client, order, ended, more):
    await client.put(recipient("c-1"), json={"name": "Ada", "email": "ada@example.com", "version": 0})
    await client.put(recipient("c-1") + "/preferences", json=NO_MAIL)
    await order(owner="c-1", id="c-1", **{"email": "ada@example.com"} | more)
    (told,) = await ended()
    assert (told["recipientId"], told["status"], told["error"]) == ("c-1", "suppressed", "channel-disabled")


async def test_a_look_alike_address_is_another_one(client, inbox, ended):
    await client.put(recipient("c-1"), json={"name": "Steve", "email": "steve@example.com", "version": 0})
    asked = await client.post(RESETS, json={"email": "\u017fteve@example.com"}, headers={"Authorization": ""})
    (told,) = await ended()
    assert (asked.status_code, told["error"], inbox.mails) == (202, "no account", [])


@pytest.mark.parametrize("word", ["staff", "the source"])
async def test_who_claimed_an_id_first_keeps_nothing_of_it(client, order, mallory, word):
    await order("order.status-changed.v1", owner="mallory", id="c-9", email="mallory@example.com")
    planted = await client.put(recipient("c-9") + "/preferences", json=NO_MAIL, headers=mallory)
    assert planted.status_code == 200
    if word == "staff":
        version = (await client.get(recipient("c-9"))).json()["version"]
        await client.put(recipient("c-9"), json={"name": "Eve", "email": "eve@example.com", "version": version})
    else:
        data = {"version": 1, "customerId": "c-9", "name": "Eve", "email": "eve@example.com"}
        changed = {"specversion": "1.0", "id": new_id(), "source": "crm", "type": "customer.changed.v1", "data": data}
        assert (await client.post("/events/customers", json=changed)).json() == {"status": "SUCCESS"}

    refused = await client.get(recipient("c-9") + "/preferences", headers=mallory)
    assert (refused.status_code, refused.json()["errorType"]) == (403, "not-owner")
    assert (await client.get(recipient("c-9") + "/preferences")).json()["channels"] == {}


async def test_who_claims_an_address_cannot_silence_its_resets(client, order, mallory, inbox):
    await order("order.status-changed.v1", owner="ada", id="c-5", email="ada@example.com")
    await order("order.status-changed.v1", owner="mallory", id="0", email="ada@example.com")
    assert (await client.put(recipient("0") + "/preferences", json=NO_MAIL, headers=mallory)).status_code == 200
    await client.post(RESETS, json={"email": "ada@example.com"}, headers={"Authorization": ""})
    await eventually(lambda: inbox.mails, every=0.02)
    assert inbox.mails[0]["To"] == "ada@example.com"
