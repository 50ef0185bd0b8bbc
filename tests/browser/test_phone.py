"""Every page of the console on a phone: nothing is cut off, and one sees where one is."""

from collections.abc import Callable

import pytest
from selenium.webdriver.common.by import By
from windows import Brewline, Open, Window, go, wait

Sign = Callable[..., Window]
Check = Callable[[Window], None]
Take = Callable[[Window, str], None]

# What is wider than the window and does not scroll by itself, and the entry of the navigation that stands for the page.
CUT = """const edge = document.documentElement.clientWidth + 1;
    return [...document.querySelectorAll("body *")].filter(one => {
      const {right, width} = one.getBoundingClientRect();
      return width && right > edge && !one.closest("nav.pages, pre, .table, .mail, .unseen, .skip");
    }).map(one => one.outerHTML.slice(0, 120));"""
HERE = """const {left, right} = document.querySelector("nav.pages [aria-current]").getBoundingClientRect();
    return left >= 0 && right <= innerWidth;"""


@pytest.mark.parametrize(("scheme", "language"), [("light", "en"), ("dark", "de")])
def test_on_a_phone_nothing_is_cut_off_and_one_sees_where_one_is(
    *,
    brewline: Brewline,
    window: Open,
    signed_in: Sign,
    no_violations: Check,
    screenshot: Take,
    scheme: str,
    language: str,
):
    order = brewline.paid()
    page = signed_in(window(width=360, height=780, scheme=scheme, language=language), "admin")
    places = {"now": "now", "orders": "orders", "order": f"orders/{order['id']}", "sagas": "sagas"}
    places |= {"saga": f"sagas/order-service/{order['id']}", "dead-letters": "dead-letters", "money": "money"}
    places |= {"payment": f"money/{order['payment']['id']}", "templates": "templates"}
    places |= {"template": "templates/Account/welcome/en", "bulk": "bulk", "sandbox": "sandbox", "nowhere": "nowhere"}
    for name, place in places.items():
        go(page, brewline, place)
        wait(page).until(
            lambda page: page.find_elements(By.TAG_NAME, "h1") and not page.find_elements(By.CSS_SELECTOR, ".loading")
        )
        assert page.execute_script(CUT) == [], name
        assert name == "nowhere" or page.execute_script(HERE), name
        no_violations(page)
        screenshot(page, f"phone-{name}-{scheme}")
