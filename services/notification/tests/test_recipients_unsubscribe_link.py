"""The link that ends mail of a kind: one click, no sign-in, nobody else's, and nothing happens by looking."""

import base64
import json
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest

from chassis.cache import Cache
from chassis.changes.feed import Changes
from chassis.ids import new_id, now
from chassis.leases import Leases
from chassis.outbox import Outbox
from notification.announcements import Announcements
from notification.api import unsubscribe
from notification.domain import ChannelName, Message, Notification
from notification.recipients.preferences import Preferences
from notification.recipients.unsubscribe_link import Forged, Subscription, Unsubscribing
from notification.sending.compose import Wording
from notification.tables import changes, leases, outbox
from notification.templates.catalog import Catalog
from notification.unit_of_work import Units
from stack.fake_sidecar import FakeSidecar

NEWER, OLDER = "the newer key of the two: 32 bytes", "the older key of the two: 32 bytes"
EMAIL = ChannelName.EMAIL


def unlocked(keys: str = NEWER) -> Unsubscribing:
    made = Unsubscribing("https://api.example/")
    made.unlock(keys)
    return made


def token_of(link: str) -> str:
    return parse_qs(urlsplit(link).query)["token"][0]


@pytest.fixture
async def client(db, routed):
    owners = Leases(db=db, table=leases)
    events = Outbox(db=db, table=outbox, leases=owners, sidecar=FakeSidecar(), pubsub="pubsub")
    told = Announcements(outbox=events, changes=Changes(db=db, table=changes, leases=owners))
    app = routed(unsubscribe.router, units=Units(db, told), unsubscribing=unlocked())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://api.example") as client:
        yield client


@pytest.fixture
def held(db):
    async def read(recipient: str = "c-1", tenant: str = "acme"):
        return await db.read(lambda conn: Preferences(conn, tenant).of(recipient))

    return read


@pytest.fixture
def link():
    return unlocked().link("acme", "c-1", EMAIL, "Offers")


# --- the link ---


def test_a_link_says_whose_and_what(link):
    assert link.startswith("https://api.example/api/v1/unsubscribe?token=")
    assert unlocked().read(token_of(link)) == Subscription("acme", "c-1", EMAIL, "Offers")


def test_a_link_of_an_older_key_works_while_that_is_known():
    old = token_of(unlocked(OLDER).link("acme", "c-1", EMAIL, "Offers"))
    assert unlocked(f"{NEWER},{OLDER}").read(old).recipient_id == "c-1"
    with pytest.raises(Forged):
        unlocked().read(old)


def test_a_short_key_is_noticed_before_any_link_is_sent():
    with pytest.raises(ValueError, match="32 bytes"):
        unlocked(f"{NEWER},short")


def test_a_link_has_no_end(link):
    assert "exp" not in jwt.decode(token_of(link), options={"verify_signature": False})


def test_the_headers_are_those_of_rfc_8058_and_a_line_that_mail_can_carry():
    longest = unlocked().link("t" * 64, "r" * 64, EMAIL, "c" * 64)
    headers = unlocked().headers(longest)
    assert headers == {"List-Unsubscribe": f"<{longest}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    assert len(f"List-Unsubscribe: <{longest}>") < 998
    assert longest.isascii()


def unsigned(claims: dict[str, str]) -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in ({"alg": "none"}, claims)
    ]
    return ".".join([*parts, ""])


CLAIMS = {"t": "acme", "r": "c-1", "n": "email", "c": "Offers"}
FORGED = {
    "another key": jwt.encode(CLAIMS, OLDER, algorithm="HS256"),
    "no signature": unsigned(CLAIMS),
    "another algorithm": jwt.encode(CLAIMS, NEWER * 2, algorithm="HS512"),
    "a claim is missing": jwt.encode({"t": "acme", "r": "c-1", "n": "email"}, NEWER, algorithm="HS256"),
    "no category": jwt.encode(CLAIMS | {"c": ""}, NEWER, algorithm="HS256"),
    "what can be no category": jwt.encode(CLAIMS | {"c": "Offers\n"}, NEWER, algorithm="HS256"),
    "no channel": jwt.encode(CLAIMS | {"n": "pigeon"}, NEWER, algorithm="HS256"),
    "no token": "",
    "nonsense": "a.b.c",
    "not ASCII": "ä.ö.ü",
    "nested": "." * 1000,
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_forged_link_says_nothing_and_does_nothing(client, held, method, token):
    refused = await client.request(method, "/api/v1/unsubscribe", params={"token": token})
    assert (refused.status_code, refused.json()["errorType"]) == (404, "link-not-found")
    assert "c-1" not in refused.text
    assert (await held())[1] == 0


# --- what it does ---


class Seen(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.form: dict[str, str | None] = {}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "form":
            self.form = dict(attrs)


async def test_looking_shows_a_button_and_changes_nothing(client, held, link):
    page = await client.get(link)
    seen = Seen(page.text)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert seen.form == {"method": "post"}  # to its own address
    assert "button" in seen.tags
    assert not {"script", "style", "link", "img"} & {*seen.tags}
    assert "form-action 'self'" in page.headers["content-security-policy"]
    assert "c-1" not in page.text
    assert "Offers" in page.text
    assert (await held())[1] == 0


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"List-Unsubscribe": "One-Click"}},
        {"files": {"List-Unsubscribe": (None, "One-Click")}},
        {},
    ],
    ids=["as a form", "as multipart", "the page's own button"],
)
async def test_one_click_ends_mail_of_that_kind_and_nothing_else(client, held, link, body):
    done = await client.post(link, **body)
    assert done.status_code == 200
    preference, version = await held()
    assert version == 1
    assert not preference.wants("Offers", EMAIL)
    assert preference.wants("Receipts", EMAIL)
    assert preference.wants("Offers", ChannelName.SMS)
    assert (await held(tenant="other"))[1] == 0


async def test_a_second_click_is_the_same_as_one(client, held, link):
    answers = [await client.post(link) for _ in range(2)]
    assert [one.status_code for one in answers] == [200, 200]
    assert answers[0].text == answers[1].text
    assert (await held())[1] == 1


async def test_a_category_is_text_on_the_page_whatever_it_is_called(client):
    page = await client.get(unlocked().link("acme", "c-1", EMAIL, '<script>alert("1")</script>'))
    assert "script" not in Seen(page.text).tags
    assert "&lt;script&gt;" in page.text
    braces = await client.get(unlocked().link("acme", "c-1", EMAIL, "{channel.__class__}"))
    assert "{channel.__class__}" in braces.text


# --- in an e-mail ---


@pytest.fixture
def worded(db):
    """A test message as its channel is given it."""

    async def make(**more: Any) -> Message:
        told: dict[str, Any] = dict.fromkeys(("effect", "owner", "event_id", "traceparent"), "")
        told |= {"id": new_id(), "tenant": "acme", "recipient_id": "c-1", "address": "ada@example.com", "context": {}}
        told |= {"category": "System", "template": "test", "locale": "en", "channel": EMAIL, "created_at": now()}
        catalog = Catalog(db, Cache(sidecar=FakeSidecar(), store="statestore", changes=None, name="notification"))
        wording = Wording(db=db, catalog=catalog, unsubscribing=unlocked(), links={})
        message = await wording.message(Notification(**told | more))
        assert isinstance(message, Message)
        return message

    return make


async def test_an_email_that_one_may_be_spared_says_how_in_headers_text_and_html(worded):
    message = await worded()
    link = message.headers["List-Unsubscribe"].strip("<>")
    assert message.headers == unlocked().headers(link)
    assert unlocked().read(token_of(link)) == Subscription("acme", "c-1", EMAIL, "System")
    assert link in message.rendered.text
    assert f'href="{link}"' in message.rendered.html


@pytest.mark.parametrize("told", [{"critical": True}, {"channel": ChannelName.SMS}], ids=["critical", "no e-mail"])
async def test_any_other_message_does_not(worded, told):
    message = await worded(**told)
    assert message.headers == {}
    assert "unsubscribe" not in f"{message.rendered}".lower()
