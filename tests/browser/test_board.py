"""The board: a customer orders and watches, the bar makes and hands over, each in a window of their own."""

from collections.abc import Callable
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from windows import Brewline, Open, Window, click, press, see, wait

Sign = Callable[..., Window]
Check = Callable[[Window], None]
Take = Callable[[Window, str], None]

BAR, MENU = "/#/bar", "/#/"
ORDER = {
    "customer": {"id": "c-1", "name": "Ada", "email": "ada@example.com"},
    "items": [{"sku": "tea", "variation": "green", "quantity": 1}],
    "payment": {"token": "tok_ok"},
}


def fill(page: Window, **fields: str) -> None:
    for name, value in fields.items():
        page.find_element(By.ID, name).send_keys(value)


def code(page: Window) -> str:
    """Of the order that the page shows."""
    wait(page).until(lambda page: page.find_elements(By.CSS_SELECTOR, ".order h1"))
    return page.find_element(By.CSS_SELECTOR, ".order h1").text.rpartition(" ")[2]


def column_of(page: Window, code: str) -> str | None:
    found = f"//*[contains(@class, 'column')][.//*[@data-order]//strong[.='{code}']]/h2"
    return next((heading.text.splitlines()[0] for heading in page.find_elements(By.XPATH, found)), None)


def stands(page: Window, code: str, column: str) -> None:
    wait(page).until(lambda page: column_of(page, code) == column, f"{code} is not in {column}")


def card(page: Window, code: str) -> Any:
    return page.find_element(By.XPATH, f"//*[@data-order][.//strong[.='{code}']]")


def place(brewline: Brewline) -> str:
    """An order by the API: its code."""
    with brewline.client("order-service", "user", sub="api") as client:
        answer = client.post("/api/v1/orders", json=ORDER)
        assert answer.status_code == 201, answer.text
        return f"#{answer.json()['id'][-4:].upper()}"


def test_from_the_menu_to_delivered_in_two_windows_at_once(
    brewline: Brewline, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take
):
    guest = window()
    guest.get(brewline.home)
    see(guest, "Latte")
    no_violations(guest)
    screenshot(guest, "board-menu-light")
    click(guest, By.CSS_SELECTOR, "[aria-label='Add Latte']")
    see(guest, "Sign in to order")

    customer = signed_in(window(), "user", name="ada", to=MENU)
    bar = signed_in(window(scheme="dark"), "staff", to=BAR)
    see(bar, "Live")
    click(customer, By.CSS_SELECTOR, "[aria-label='Add Latte']")
    click(customer, By.CSS_SELECTOR, "[aria-label='Add Butter croissant']")
    fill(customer, name="Ada", email="ada@example.com")
    no_violations(customer)
    screenshot(customer, "board-basket-light")
    press(customer, "Place the order for $7.40")
    see(customer, "Confirmed")
    ordered = code(customer)
    see(customer, "It is paid, and next in line.")

    stands(bar, ordered, "Confirmed")
    no_violations(bar)
    ActionChains(bar).drag_and_drop(card(bar, ordered), column(bar, "preparation")).perform()
    stands(bar, ordered, "In preparation")
    see(customer, "Somebody is making it right now.")
    screenshot(bar, "board-bar-dark")
    card(bar, ordered).find_element(By.TAG_NAME, "button").click()
    stands(bar, ordered, "Ready")
    see(customer, "Come and get it.")
    screenshot(customer, "board-order-light")
    card(bar, ordered).find_element(By.TAG_NAME, "button").click()
    see(customer, "Enjoy.")
    see(customer, "You were told")
    no_violations(customer)


def column(page: Window, status: str) -> Any:
    return page.find_element(By.CSS_SELECTOR, f"[aria-labelledby=column-{status}]")


def test_the_order_service_is_killed_and_the_board_is_right_when_it_is_back(
    brewline: Brewline, window: Open, signed_in: Sign, screenshot: Take
):
    page = signed_in(window(), "staff", to=BAR)
    see(page, "Live")
    before = place(brewline)
    stands(page, before, "Confirmed")
    brewline.stack.kill_app("order-service")
    see(page, "Offline: what you see may be old")
    card(page, before).find_element(By.TAG_NAME, "button").click()  # shown at once, and taken back
    see(page, f"Order {before} stays where it was")
    stands(page, before, "Confirmed")
    screenshot(page, "board-bar-offline-light")

    brewline.stack.heal()
    meanwhile = place(brewline)
    stands(page, meanwhile, "Confirmed")
    see(page, "Live")
    shown = [heading.text for heading in page.find_elements(By.CSS_SELECTOR, "[data-order] strong")]
    assert (shown.count(before), shown.count(meanwhile)) == (1, 1)
    card(page, before).find_element(By.TAG_NAME, "button").click()
    stands(page, before, "In preparation")


def test_by_keys_alone_an_order_is_placed_and_moved(brewline: Brewline, window: Open, signed_in: Sign):
    page = signed_in(window(), "staff", to=MENU)
    see(page, "Latte")
    keys = ActionChains(page)

    def go_to(name: str) -> None:
        for _ in range(80):
            at = page.switch_to.active_element
            if name in (at.accessible_name or ""):
                return
            ActionChains(page).send_keys(Keys.TAB).perform()
        raise AssertionError(f"no key leads to {name!r}")

    go_to("Add Espresso")
    keys.send_keys(Keys.ENTER).perform()
    go_to("Name")
    ActionChains(page).send_keys("Grace", Keys.TAB, "grace@example.com", Keys.ENTER).perform()
    ordered = code(page)
    page.get(f"{brewline.home}{BAR}")
    stands(page, ordered, "Confirmed")
    go_to(ordered)
    ActionChains(page).send_keys(Keys.ARROW_RIGHT).perform()
    stands(page, ordered, "In preparation")
    wait(page).until(lambda page: not page.find_elements(By.CSS_SELECTOR, ".moving"))
    assert ordered in page.switch_to.active_element.accessible_name  # whoever moved it is still on it
    ActionChains(page).send_keys(Keys.ARROW_RIGHT).perform()
    stands(page, ordered, "Ready")


def test_on_a_phone_in_german_a_refusal_stands_at_its_field_and_a_cancelled_order_is_given_back(
    brewline: Brewline, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take
):
    page = signed_in(window(width=360, height=740, scheme="dark", language="de"), "user", name="bert", to=MENU)
    see(page, "Was darf es sein?")
    screenshot(page, "board-menu-phone-dark-german")
    click(page, By.CSS_SELECTOR, "[aria-label='Latte dazu in den Korb']")
    click(page, By.CSS_SELECTOR, ".to-basket")
    fill(page, name="Bert", email="bert@example.com")
    Select(page.find_element(By.ID, "card")).select_by_value("tok_insufficient_funds")
    click(page, By.CSS_SELECTOR, "form button[type=submit]")
    wait(page).until(
        lambda page: (
            "nicht genug Geld" in page.find_element(By.ID, "card-said").text
            and page.switch_to.active_element.get_attribute("id") == "card"
        )
    )
    no_violations(page)
    screenshot(page, "board-declined-phone-dark-german")

    Select(page.find_element(By.ID, "card")).select_by_value("tok_ok")
    click(page, By.CSS_SELECTOR, "form button[type=submit]")
    see(page, "bezahlt")
    screenshot(page, "board-order-phone-dark-german")
    press(page, "Bestellung stornieren")
    press(page, "Ja, stornieren")
    see(page, "Storniert")
    see(page, "zurückgegeben")
    no_violations(page)
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    page.get(f"{brewline.home}/#/orders")
    see(page, "Storniert")
    no_violations(page)


def test_it_is_small_and_soon_there(brewline: Brewline, window: Open):
    page = window()
    page.get(brewline.home)
    see(page, "Latte")
    sizes = page.execute_script(
        "return [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".filter(entry => entry.name.startsWith(location.origin)).map(entry => entry.encodedBodySize)"
    )
    assert sum(sizes) < 100_000
    painted = "return performance.getEntriesByName('first-contentful-paint').length"
    assert page.execute_script(painted) == 1


@pytest.mark.parametrize("address", ["/#/orders", BAR])
def test_who_is_not_signed_in_is_asked_to(brewline: Brewline, window: Open, no_violations: Check, address: str):
    page = window()
    page.get(f"{brewline.home}{address}")
    see(page, "Please sign in")
    no_violations(page)
