"""Signing in, staying signed in and signing out, against an issuer that is played by the sidecar's answers."""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest

from chassis.sidecar import Answer, SidecarDown
from stack.fake_sidecar import FakeSidecar
from stack.issuer import ISSUER
from stack.issuer import Issuer as Signer

HOME = "http://localhost:8005"
OWN = {"Origin": HOME}
AT = "https://login.example/realm/"  # as the sidecar reaches it, and browsers too
METADATA = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{AT}authorize",
    "token_endpoint": f"{AT}token",
    "jwks_uri": f"{AT}.well-known/jwks.json",
    "revocation_endpoint": f"{AT}revoke",
    "end_session_endpoint": f"{AT}logout",
}
Forms = list[dict[str, str]]


class Provider:
    """The issuer: codes that are good once, refresh tokens that rotate and take no second use."""

    def __init__(self, sidecar: FakeSidecar, signer: Signer) -> None:
        self.sidecar, self.signer = sidecar, signer
        self.metadata: dict[str, Any] = dict(METADATA)
        self.role, self.nonce = "staff", ""
        self.refresh = 0
        self.claims: dict[str, Any] = {}
        self.answers = 0
        sidecar.answers |= {
            "issuer/.well-known/openid-configuration": lambda _: Answer(status=200, data=self.metadata),
            "issuer-token/token": self.token,
            "issuer-token/revoke": Answer(status=200, data=None),
        }

    def token(self, form: dict[str, str]) -> Answer:
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] != f"r-{self.refresh}":
                return Answer(status=400, data={"error": "invalid_grant"})
        elif form["code"] != "good":
            return Answer(status=400, data={"error": "invalid_grant"})
        self.refresh += 1
        id_claims: dict[str, Any] = {"nonce": self.nonce, "iat": int(time.time()), "aud": "brewline"}
        return Answer(
            status=200,
            data={
                "access_token": self.signer.token(self.role, sub="sam", **self.claims),
                "refresh_token": f"r-{self.refresh}",
                "id_token": self.signer.token(**(id_claims | self.claims)),
            },
        )

    @property
    def asked(self) -> Forms:
        return [body for name, body in self.sidecar.invoked if name == "issuer-token/token"]


@pytest.fixture
def provider(sidecar: FakeSidecar, issuer: Signer) -> Provider:
    return Provider(sidecar, issuer)


@pytest.fixture
async def browser(
    running: Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]],
) -> AsyncIterator[httpx.AsyncClient]:
    async with running() as client:
        client.headers.clear()
        client.base_url = httpx.URL(HOME)
        yield client


async def begun(browser: httpx.AsyncClient, provider: Provider, to: str = "/ops") -> dict[str, str]:
    """On the way to the issuer; what it was asked with."""
    answer = await browser.get("/auth/sign-in", params={"to": to})
    assert answer.status_code == 303
    query = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}
    provider.nonce = query["nonce"]
    return query


async def signed_in(browser: httpx.AsyncClient, provider: Provider) -> httpx.Response:
    query = await begun(browser, provider)
    answer = await browser.get("/auth/callback", params={"state": query["state"], "code": "good"})
    assert answer.status_code == 303, answer.text
    return answer


async def renewed(browser: httpx.AsyncClient) -> dict[str, Any]:
    answer = await browser.post("/auth/token", headers=OWN)
    assert answer.status_code == 200, answer.text
    return answer.json()


def session_of(browser: httpx.AsyncClient) -> str:
    return browser.cookies.get("brewline-session-8005", path="/auth") or ""


async def test_the_issuer_is_asked_with_pkce_and_what_comes_back_is_tied_to_this_attempt(
    browser: httpx.AsyncClient, provider: Provider
):
    query = await begun(browser, provider)
    assert query["response_type"] == "code"
    assert query["redirect_uri"] == f"{HOME}/auth/callback"
    assert query["code_challenge_method"] == "S256"
    assert "prompt" not in query

    answer = await browser.get("/auth/callback", params={"state": query["state"], "code": "good", "iss": ISSUER})

    assert (answer.status_code, answer.headers["location"]) == (303, "/ops")
    digest = hashlib.sha256(provider.asked[0]["code_verifier"].encode()).digest()
    assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == query["code_challenge"]


async def test_the_issuer_is_asked_as_it_wants_and_whoever_is_signed_in_there_too_for_somebody_else(
    running: Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]], provider: Provider
):
    wants = {"audience": "brewline", "prompt": "consent"}
    async with running(sign_in_parameters=wants) as client:
        for another, prompt in (("false", "consent"), ("true", "login consent")):
            answer = await client.get("/auth/sign-in", params={"another": another})
            query = parse_qs(urlsplit(answer.headers["location"]).query)
            assert (query["audience"], query["prompt"]) == (["brewline"], [prompt])
    assert provider.asked == []


async def test_a_page_gets_the_token_and_the_cookie_keeps_what_renews_it(
    browser: httpx.AsyncClient, provider: Provider
):
    cookies = (await signed_in(browser, provider)).headers.get_list("set-cookie")
    kept = next(cookie for cookie in cookies if cookie.startswith("brewline-session-8005="))
    assert {"HttpOnly", "Path=/auth", "SameSite=strict"} <= set(kept.split("; "))
    assert "r-1" not in kept

    session = await renewed(browser)

    assert (session["subject"], session["roles"], session["tenant"]) == ("sam", ["staff"], "default")
    assert jwt.decode(session["accessToken"], options={"verify_signature": False})["sub"] == "sam"
    assert session["tenantName"] == "Default"
    assert [form.get("refresh_token") for form in provider.asked] == [None, "r-1"]
    assert (await renewed(browser))["subject"] == "sam"  # with the one that came of it
    assert provider.asked[-1]["refresh_token"] == "r-2"


async def test_over_https_cookies_go_over_https_alone(
    running: Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]], provider: Provider
):
    async with running(public_url="https://board.example") as client:
        answer = await client.get("https://board.example/auth/sign-in")
    assert "Secure" in answer.headers["set-cookie"]
    assert provider.asked == []


async def test_nobody_is_signed_in_without_a_cookie(browser: httpx.AsyncClient):
    answer = await browser.post("/auth/token", headers=OWN)
    assert (answer.status_code, answer.content) == (204, b"")


async def test_an_answer_that_nobody_asked_for_is_refused(browser: httpx.AsyncClient, provider: Provider):
    await begun(browser, provider)
    for state in ("", "x" * 43, "another"):
        answer = await browser.get("/auth/callback", params={"state": state, "code": "good"})
        assert answer.status_code == 400, state
        assert "This sign-in is over" in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert provider.asked == []


async def test_an_answer_that_comes_again_is_refused_and_the_session_stays(
    browser: httpx.AsyncClient, provider: Provider
):
    query = await begun(browser, provider)
    first, again = [
        await browser.get("/auth/callback", params={"state": query["state"], "code": "good"}) for _ in range(2)
    ]

    assert (first.status_code, again.status_code) == (303, 400)
    assert len(provider.asked) == 1
    await renewed(browser)


async def test_another_browsers_state_is_worth_nothing(browser: httpx.AsyncClient, provider: Provider):
    """Whoever would have somebody signed in as himself sends his own state and code."""
    query = await begun(browser, provider)
    browser.cookies.clear()

    answer = await browser.get("/auth/callback", params={"state": query["state"], "code": "good"})

    assert (answer.status_code, provider.asked) == (400, [])


async def test_an_attempt_is_over_after_ten_minutes(
    browser: httpx.AsyncClient, provider: Provider, monkeypatch: pytest.MonkeyPatch
):
    query = await begun(browser, provider)
    at = time.time()
    monkeypatch.setattr("backoffice.sign_in.attempt.time.time", lambda: at + 601)

    answer = await browser.get("/auth/callback", params={"state": query["state"], "code": "good"})

    assert (answer.status_code, provider.asked) == (400, [])


FOREIGN = (
    "https://evil.example/",
    "//evil.example",
    "/\\evil.example",
    "ops",
    "",
    "/a\r\nLocation: x",
    "javascript:alert(1)",
)


async def test_nobody_is_sent_to_a_foreign_address(browser: httpx.AsyncClient):
    for to in FOREIGN:
        answer = await browser.get("/auth/sign-in", params={"to": to})
        assert answer.status_code == 400, to
        assert "not one of ours" in answer.text
        assert "set-cookie" not in answer.headers


async def test_who_declines_is_told_so_and_is_not_signed_in(browser: httpx.AsyncClient, provider: Provider):
    query = await begun(browser, provider)

    answer = await browser.get(
        "/auth/callback", params={"state": query["state"], "error": "access_denied", "error_description": "<script>"}
    )

    assert (answer.status_code, provider.asked) == (403, [])
    assert "You did not sign in" in answer.text
    assert "<script>" not in answer.text
    assert 'href="/auth/sign-in?to=/ops"' in answer.text


async def test_a_code_that_the_issuer_takes_no_more_is_said_in_plain_words(
    browser: httpx.AsyncClient, provider: Provider
):
    query = await begun(browser, provider)
    answer = await browser.get(
        "/auth/callback",
        params={"state": query["state"], "code": "used"},
        headers={"Accept-Language": "de-AT,de;q=0.9"},
    )
    assert answer.status_code == 400
    assert "Diese Anmeldung ist vorbei" in answer.text


async def test_another_issuers_code_is_not_shown_to_ours(browser: httpx.AsyncClient, provider: Provider):
    query = await begun(browser, provider)
    mixed_up = {"state": query["state"], "code": "good", "iss": "https://other.example"}
    assert (await browser.get("/auth/callback", params=mixed_up)).status_code == 400
    assert provider.asked == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonce": "another"},
        {"aud": "somebody-else"},
        {"iss": "https://other.example"},
        {"exp": 1},
        {"tenant": ""},
    ],
)
async def test_tokens_that_are_not_for_us_sign_nobody_in(
    browser: httpx.AsyncClient, provider: Provider, logs: list[Any], wrong: dict[str, Any]
):
    query = await begun(browser, provider)
    provider.claims = wrong

    answer = await browser.get("/auth/callback", params={"state": query["state"], "code": "good"})

    assert (answer.status_code, session_of(browser)) == (502, "")
    assert "not set up right" in answer.text
    assert any(record["event"] == "sign_in.issuer_unusable" for record in logs)


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "https://other.example"},
        {"token_endpoint": "https://elsewhere.example/token"},
        {"jwks_uri": "https://elsewhere.example/keys"},
        {"authorization_endpoint": None},
    ],
)
async def test_an_issuer_that_is_set_up_otherwise_is_said_to_be(
    browser: httpx.AsyncClient, provider: Provider, changed: dict[str, Any]
):
    provider.metadata |= changed
    answer = await browser.get("/auth/sign-in")
    if answer.status_code == 303:  # it shows when it is asked for tokens
        query = parse_qs(urlsplit(answer.headers["location"]).query)
        answer = await browser.get("/auth/callback", params={"state": query["state"][0], "code": "good"})
    assert answer.status_code == 502
    assert provider.asked == []


def down(_: Any) -> Answer:
    raise SidecarDown


@pytest.mark.parametrize(
    "broken", [down, Answer(status=500, data={"errorCode": "ERR_DIRECT_INVOKE"}), Answer(status=503, data=None)]
)
async def test_an_issuer_that_is_down_is_said_in_plain_words_and_keeps_who_is_signed_in(
    browser: httpx.AsyncClient, provider: Provider, broken: Any
):
    await signed_in(browser, provider)
    before = session_of(browser)
    good = dict(provider.sidecar.answers)
    provider.sidecar.answers |= {"issuer-token/token": broken}

    refused = await browser.post("/auth/token", headers=OWN)
    assert refused.status_code == 503
    assert session_of(browser) == before
    query = await begun(browser, provider)
    page = await browser.get("/auth/callback", params={"state": query["state"], "code": "good"})
    assert page.status_code == 503
    assert "does not work at the moment" in page.text

    provider.sidecar.answers = good
    await renewed(browser)


async def test_a_session_that_the_issuer_has_ended_is_over(browser: httpx.AsyncClient, provider: Provider):
    await signed_in(browser, provider)
    provider.refresh = 99

    answers = [await browser.post("/auth/token", headers=OWN) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 204]
    assert session_of(browser) == ""


async def test_a_forged_cookie_is_nobodys(browser: httpx.AsyncClient, provider: Provider):
    for forged in ("nonsense", "gAAAAABn" + "x" * 120):
        answer = await browser.post("/auth/token", headers={**OWN, "Cookie": f"brewline-session-8005={forged}"})
        assert answer.status_code == 204, forged
    assert provider.asked == []


async def test_only_our_own_pages_may_ask(browser: httpx.AsyncClient, provider: Provider):
    await signed_in(browser, provider)
    for path in ("/auth/token", "/auth/sign-out"):
        for origin in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": f"{HOME}1"}):
            answer = await browser.post(path, headers=origin)
            assert (answer.status_code, answer.json()["errorType"]) == (403, "foreign-origin"), (path, origin)
    await renewed(browser)


async def test_tabs_that_renew_at_once_use_the_refresh_token_once(browser: httpx.AsyncClient, provider: Provider):
    await signed_in(browser, provider)
    same = {**OWN, "Cookie": f"brewline-session-8005={session_of(browser)}"}

    answers = await asyncio.gather(*[browser.post("/auth/token", headers=same) for _ in range(5)])
    late = await browser.post("/auth/token", headers=same)  # a page that was left before its answer came

    assert {answer.status_code for answer in [*answers, late]} == {200}
    assert len(provider.asked) == 2  # the code, and one refresh
    assert await renewed(browser)


async def test_a_replica_that_dies_with_the_refresh_token_in_hand_is_waited_for_and_then_replaced(
    browser: httpx.AsyncClient, provider: Provider, monkeypatch: pytest.MonkeyPatch
):
    await signed_in(browser, provider)
    name = f"sign-in:{hashlib.sha256(b'r-1').hexdigest()}"
    provider.sidecar.state[name] = "under-way"
    monkeypatch.setattr("backoffice.sign_in.renewal._LOOK_EVERY", 0.001)
    monkeypatch.setattr("backoffice.sign_in.renewal._PATIENCE", 0.01)

    assert (await browser.post("/auth/token", headers=OWN)).status_code == 503
    del provider.sidecar.state[name]  # as its time to live does
    await renewed(browser)


async def test_what_the_state_store_keeps_is_sealed(browser: httpx.AsyncClient, provider: Provider):
    await signed_in(browser, provider)
    token = (await renewed(browser))["accessToken"]
    kept = json.dumps(provider.sidecar.state)
    assert "sign-in:" in kept
    assert token not in kept
    assert "r-2" not in kept


async def test_signing_out_revokes_clears_and_leads_to_the_end_of_the_issuers_session(
    browser: httpx.AsyncClient, provider: Provider
):
    await signed_in(browser, provider)

    answer = await browser.post("/auth/sign-out", headers=OWN)

    following = urlsplit(answer.json()["next"])
    assert following.path == "/realm/logout"
    assert parse_qs(following.query)["post_logout_redirect_uri"] == [f"{HOME}/"]
    revoked = [body for name, body in provider.sidecar.invoked if name == "issuer-token/revoke"]
    assert [form["token"] for form in revoked] == ["r-1"]
    assert session_of(browser) == ""
    assert (await browser.post("/auth/sign-out", headers=OWN)).json() == {"next": "/"}


async def test_signing_out_ends_it_here_whatever_the_issuer_does(
    browser: httpx.AsyncClient, provider: Provider, monkeypatch: pytest.MonkeyPatch
):
    await signed_in(browser, provider)
    provider.sidecar.answers |= {"issuer-token/revoke": down, "issuer/.well-known/openid-configuration": down}
    monkeypatch.setattr("backoffice.sign_in.issuer._FRESH_SECONDS", 0.0)

    answer = await browser.post("/auth/sign-out", headers=OWN)

    assert (answer.status_code, answer.json()) == (200, {"next": f"{HOME}/"})
    assert session_of(browser) == ""


async def test_a_confidential_client_shows_its_secret_in_the_header(
    running: Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]], provider: Provider
):
    provider.sidecar.secrets |= {"client-secret": "s:e/cret"}
    async with running() as client:
        client.base_url = httpx.URL(HOME)
        await signed_in(client, provider)
    shown = next(headers for headers in provider.sidecar.headers if "Authorization" in headers)["Authorization"]
    assert base64.b64decode(shown.removeprefix("Basic ")).decode() == "brewline:s%3Ae%2Fcret"
    assert "client_id" not in provider.asked[0]


async def test_no_token_code_or_cookie_is_logged(browser: httpx.AsyncClient, provider: Provider, logs: list[Any]):
    await signed_in(browser, provider)
    token = (await renewed(browser))["accessToken"]
    await browser.post("/auth/sign-out", headers=OWN)

    told = json.dumps(logs, default=repr)
    for secret in (token, "r-1", "r-2", '"good"', provider.asked[0]["code_verifier"]):
        assert secret not in told
