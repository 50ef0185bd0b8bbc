"""The issuer as browsers meet it: picking who one is, codes with PKCE, refresh tokens that rotate."""

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest

from .conftest import Outside

PAGES = "http://localhost:8005"
VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
ASKED = {
    "response_type": "code",
    "client_id": "brewline",
    "redirect_uri": f"{PAGES}/auth/callback",
    "scope": "openid",
    "state": "the-state",
    "nonce": "the-nonce",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


def told(answer: httpx.Response) -> dict[str, str]:
    """What the client is told by where the browser is sent."""
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"].startswith(f"{PAGES}/auth/callback?")
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


def picked(outside: Outside, **form: str) -> dict[str, str]:
    return told(outside.http.post("/oauth/authorize", data=ASKED | form))


def redeemed(outside: Outside, code: str, **changed: str) -> httpx.Response:
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, "client_id": "brewline"}
    return outside.http.post("/oauth/token", data=form | {"redirect_uri": ASKED["redirect_uri"]} | changed)


def refreshed(outside: Outside, token: str, client_id: str = "brewline") -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": client_id}
    return outside.http.post("/oauth/token", data=form)


def claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def test_who_one_is_ends_up_in_the_tokens(outside: Outside):
    page = outside.http.get("/oauth/authorize", params=ASKED)
    assert page.status_code == 200
    assert 'value="the-state"' in page.text
    assert "script-src" not in page.headers["content-security-policy"]

    answer = picked(outside, role="staff", sub="grace", tenant="north-side")
    assert (answer["state"], answer["iss"]) == ("the-state", "http://localhost:8009")
    granted = redeemed(outside, answer["code"])

    assert granted.headers["cache-control"] == "no-store"
    access, identity = claims(granted.json()["access_token"]), claims(granted.json()["id_token"])
    assert (access["sub"], access["roles"], access["tenant"], access["aud"]) == (
        "grace",
        ["staff"],
        "north-side",
        "brewline",
    )
    assert access["tenant_name"] == "North Side"
    assert (identity["sub"], identity["nonce"], identity["aud"]) == ("grace", "the-nonce", "brewline")


@pytest.mark.parametrize(("role", "name"), [("user", "ada"), ("staff", "sam"), ("admin", "alex")])
def test_who_gives_no_name_has_one(outside: Outside, role: str, name: str):
    granted = redeemed(outside, picked(outside, role=role)["code"]).json()
    assert claims(granted["access_token"])["sub"] == name


def test_what_cannot_be_is_said_on_the_page(outside: Outside):
    answer = outside.http.post("/oauth/authorize", data=ASKED | {"tenant": "<b>", "role": "staff"})
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text
    assert '<b>"' not in answer.text
    assert 'value="staff" checked' in answer.text


def test_not_now_is_told_to_the_client(outside: Outside):
    assert picked(outside, decision="deny")["error"] == "access_denied"


@pytest.mark.parametrize("redirect_uri", ["https://evil.example/", f"{PAGES}.evil.example/", "", PAGES])
def test_nobody_is_sent_anywhere_but_to_our_pages(outside: Outside, redirect_uri: str):
    for answer in (
        outside.http.get("/oauth/authorize", params=ASKED | {"redirect_uri": redirect_uri}),
        outside.http.post("/oauth/authorize", data=ASKED | {"redirect_uri": redirect_uri}),
    ):
        assert answer.status_code == 400
        assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "email"}, "invalid_scope"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
    ],
)
def test_a_client_that_asks_wrongly_is_told_why(outside: Outside, changed: dict[str, str], error: str):
    assert told(outside.http.get("/oauth/authorize", params=ASKED | changed))["error"] == error
    assert picked(outside, **changed)["error"] == error


@pytest.mark.parametrize(
    "changed",
    [
        {"code_verifier": "w" * 64},
        {"code_verifier": ""},
        {"redirect_uri": f"{PAGES}/other"},
        {"client_id": "another"},
    ],
)
def test_a_code_is_worth_nothing_to_whoever_did_not_ask_for_it(outside: Outside, changed: dict[str, str]):
    answer = redeemed(outside, picked(outside)["code"], **changed)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert redeemed(outside, "made-up").json()["error"] == "invalid_grant"


def test_a_code_that_comes_twice_also_ends_what_it_began(outside: Outside):
    code = picked(outside)["code"]
    refresh = redeemed(outside, code).json()["refresh_token"]
    assert redeemed(outside, code).json()["error"] == "invalid_grant"
    assert refreshed(outside, refresh).json()["error"] == "invalid_grant"


def test_a_refresh_token_rotates_and_one_that_comes_twice_ends_the_session(outside: Outside):
    first = redeemed(outside, picked(outside)["code"]).json()["refresh_token"]
    assert refreshed(outside, first, client_id="another").status_code == 400
    second = refreshed(outside, first).json()["refresh_token"]
    assert second != first
    assert refreshed(outside, first).json()["error"] == "invalid_grant"
    assert refreshed(outside, second).json()["error"] == "invalid_grant"


def test_a_revoked_session_is_over(outside: Outside):
    refresh = redeemed(outside, picked(outside)["code"]).json()["refresh_token"]
    for token in (refresh, "made-up"):
        assert outside.http.post("/oauth/revoke", data={"token": token}).status_code == 200
    assert refreshed(outside, refresh).status_code == 400


def test_after_signing_out_one_is_back_on_our_pages_and_nowhere_else(outside: Outside):
    back = outside.http.get("/oauth/logout", params={"post_logout_redirect_uri": f"{PAGES}/"})
    assert (back.status_code, back.headers["location"]) == (303, f"{PAGES}/")
    elsewhere = outside.http.get("/oauth/logout", params={"post_logout_redirect_uri": "https://evil.example/"})
    assert elsewhere.status_code == 200


def test_our_pages_may_call_the_controls_and_others_may_not(outside: Outside):
    def allowed(origin: str) -> str | None:
        answer = outside.http.get("/sandbox/faults", headers={"Origin": origin})
        return answer.headers.get("access-control-allow-origin")

    assert allowed(PAGES) == PAGES
    assert allowed("https://evil.example") is None
