"""Signing in and out, as people do it."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from selenium.webdriver.common.by import By
from windows import Brewline, Open, Window, pick, press, see, wait

Sign = Callable[..., Window]
Check = Callable[[Window], None]
Take = Callable[[Window, str], None]


@pytest.mark.parametrize(("role", "shown"), [("user", "This page is for the staff"), ("staff", "Console")])
def test_who_signs_in_stays_signed_in_and_a_user_is_kept_out_of_the_console(
    *, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take, role: str, shown: str
):
    page = signed_in(window(), role, name="ada.l")
    see(page, shown)
    see(page, "ada.l")
    no_violations(page)
    screenshot(page, f"sign-in-console-as-{role}")

    page.refresh()
    see(page, shown)

    # The token is in memory alone: nothing that a script could read later holds it.
    kept = page.execute_script(
        "return JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}, location.href])"
    )
    assert "eyJ" not in kept
    assert json.loads(kept)[0] == ""


def test_signing_out_ends_it_in_every_tab(
    brewline: Brewline, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take
):
    page = signed_in(window(width=390, height=844, scheme="dark"), "admin")
    first = page.current_window_handle
    page.switch_to.new_window("tab")
    page.get(f"{brewline.home}/ops")
    see(page, "alex")

    press(page, "Sign out")
    wait(page).until(lambda page: page.current_url == f"{brewline.home}/")
    page.switch_to.window(first)
    see(page, "Please sign in")
    no_violations(page)
    screenshot(page, "sign-in-signed-out-phone-dark")


def test_many_tabs_that_open_at_once_stay_signed_in(brewline: Brewline, window: Open, signed_in: Sign):
    """Each renews the session by the same cookie. In turn, where the browser has locks: so the cookie is also shown by
    many who know of no lock."""
    page = signed_in(window(), "staff")
    for _ in range(3):
        page.execute_script(f"window.open('{brewline.home}/ops')")
    for tab in page.window_handles:
        page.switch_to.window(tab)
        see(page, "Sign out")

    (cookie,) = page.execute_cdp_cmd("Network.getCookies", {"urls": [f"{brewline.home}/auth/token"]})["cookies"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    shown = {"Origin": brewline.home, "Cookie": f"{cookie['name']}={cookie['value']}"}
    with ThreadPoolExecutor(6) as threads:
        address = f"{brewline.home}/auth/token"
        answers = list(threads.map(lambda _: httpx.post(address, headers=shown, trust_env=False), range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["accessToken"] for answer in answers}) == 1

    page.refresh()
    see(page, "Sign out")


def test_the_sandboxs_page_says_who_one_may_be_and_not_now_leads_back(
    brewline: Brewline, window: Open, no_violations: Check, screenshot: Take
):
    page = window(width=390, height=844)
    page.get(f"{brewline.home}/ops")
    press(page, "Sign in")
    see(page, "Who are you?")
    no_violations(page)
    screenshot(page, "sign-in-issuer-phone-light")

    press(page, "Not now")
    see(page, "You did not sign in")
    no_violations(page)
    screenshot(page, "sign-in-declined-phone-light")

    press(page, "Sign in again")
    pick(page, "staff")
    see(page, "Sign out")
    assert page.current_url == f"{brewline.home}/ops"


def test_a_page_that_was_opened_by_another_name_of_this_machine_goes_where_its_cookies_are(
    brewline: Brewline, window: Open, screenshot: Take
):
    page = window(language="de", scheme="dark")
    page.get(brewline.home.replace("localhost", "127.0.0.1") + "/ops#/x")
    see(page, "Bitte melden Sie sich an")
    assert page.current_url == f"{brewline.home}/ops#/x"
    assert page.find_element(By.TAG_NAME, "html").get_attribute("lang") == "de"
    screenshot(page, "sign-in-needed-dark-german")
