"""The console: what is wrong comes first. After all others: what it breaks takes half a minute to be well again."""

from collections.abc import Callable
from datetime import timedelta

from selenium.webdriver.common.by import By
from windows import Brewline, Open, Window, click, fault, press, see, wait

from chassis.ids import now

Sign = Callable[..., Window]
Check = Callable[[Window], None]
Take = Callable[[Window, str], None]

PHONE = {"width": 390, "height": 844}
WIDTH = "return document.documentElement.scrollWidth"


def place(brewline: Brewline, *, prefer: str = "wait") -> str:
    return brewline.order(prefer=prefer)["id"]


def first_wrong(page: Window) -> str:
    return page.find_element(By.CSS_SELECTOR, ".wrong li").text


def test_a_service_that_stops_comes_first_and_what_is_known_is_still_shown(
    brewline: Brewline, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take
):
    order = brewline.paid()["id"]
    page, phone = signed_in(window(height=1500), "admin"), signed_in(window(**PHONE, scheme="dark"))
    see(page, "Orders a minute")
    see(page, "components")
    no_violations(page)
    screenshot(page, "console-now-light")
    phone.get(f"{brewline.home}/ops#/orders/{order}")
    see(phone, "What happened")
    brewline.stack.kill_app("order-service")
    try:
        wait(page).until(lambda page: "order-service does not answer" in first_wrong(page))
        see(page, "payment-service")
        no_violations(page)
        screenshot(page, "console-now-stopped-light")
        see(phone, "stale: as of")
        see(phone, "is paid; the order is confirmed")
        press(phone, "Now")
        see(phone, "order-service does not answer")
        see(phone, "Only an admin sees this")
        no_violations(phone)
        screenshot(phone, "console-now-phone-dark")
        assert phone.execute_script(WIDTH) <= PHONE["width"]
    finally:
        brewline.stack.heal()
    wait(page).until(lambda page: "does not answer" not in page.find_element(By.CSS_SELECTOR, ".wrong").text)


def test_an_open_breaker_and_a_payment_that_nobody_knows_about_are_shown_and_a_person_settles_it(
    brewline: Brewline, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take
):
    page = signed_in(window(height=1500), "admin")
    see(page, "Breakers")
    with fault(brewline, "payment-a", "payment-b"):
        for _ in range(3):
            place(brewline, prefer="respond-async")
        order = place(brewline)
        place(brewline, prefer="respond-async")  # of what has opened a sidecar tells from the next call on
        see(page, "The breaker from payment-service to payment-a is open")
        see(page, "next look at")
        long_ago = (now() - timedelta(hours=25)).strftime("%Y-%m-%d %H:%M:%S.%f")
        aged = "UPDATE payments SET created_at = ?1, first_posted_at = ?1 WHERE order_id = ?2"
        brewline.write("payment", aged, long_ago, order)
        unknown = f"//*[contains(@class, 'wrong')]//li[.//a[contains(@href, '{order}')]]"
        wait(page).until(lambda page: "act" in page.find_element(By.XPATH, unknown).text.lower())
        marks = [mark.text for mark in page.find_elements(By.CSS_SELECTOR, ".wrong li .mark")]
        assert marks == sorted(marks)  # act, and then watch
        screenshot(page, "console-now-breaker-light")
        click(page, By.XPATH, f"{unknown}//a")
        see(page, "has not said what became of the charge")
        screenshot(page, "console-order-unknown-light")

        click(page, By.CSS_SELECTOR, ".reasons a")
        see(page, "What became of it?")
        page.find_element(By.NAME, "reference").send_keys("ch_found_at_the_provider")
        page.find_element(By.NAME, "reason").send_keys("asked on the telephone")
        no_violations(page)
        screenshot(page, "console-payment-unknown-light")
        press(page, "Write it down")
        see(page, "asked on the telephone · ch_found_at_the_provider")
        click(page, By.XPATH, f"//dd/a[contains(@href, '{order}')]")
        see(page, "is paid; the order is confirmed.")
