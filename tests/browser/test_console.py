"""The console: why an order stands where it does."""

from collections.abc import Callable

from selenium.webdriver.common.by import By
from windows import Brewline, Open, Window, click, fault, press, see, wait

from stack.local import wait_until

Sign = Callable[..., Window]
Check = Callable[[Window], None]
Take = Callable[[Window, str], None]

PHONE = {"width": 390, "height": 844}
WIDTH = "return document.documentElement.scrollWidth"


def test_an_address_that_changes_while_the_console_is_drawn_is_followed(window: Open, signed_in: Sign):
    page = signed_in(window())
    at_once = """new MutationObserver((_, watch) => {
        if (!document.querySelector(".console")) return;
        watch.disconnect();
        location.hash = "#/orders";
    }).observe(document, {childList: true, subtree: true})"""
    page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": at_once})
    page.refresh()

    wait(page).until(lambda page: page.find_element(By.CSS_SELECTOR, "nav.pages [aria-current]").text == "Orders")


def test_an_orders_story_is_read_from_its_page(
    brewline: Brewline, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take
):
    order = brewline.paid()["id"]
    declined = brewline.order("tok_declined")["orderId"]
    with brewline.client("notification-service") as client:

        def sent() -> bool:
            page = client.get("/api/v1/notifications", params={"subjectId": order}).json()
            return any(message["status"] in {"sent", "delivered"} for message in page["items"])

        wait_until(sent, within=20, what="the message")

    page = signed_in(window(height=1400))
    page.find_element(By.CSS_SELECTOR, ".find input").send_keys(f"order {order}")
    see(page, "What happened")
    see(page, "$9.00 is paid; the order is confirmed.")
    told = page.find_element(By.CSS_SELECTOR, ".story").text
    for words in ("Place", "Charge", "order.confirmed.v1", "Charge of $9.00 begun at provider", "E-mail: "):
        assert words in told, words
    times = [str(moment.get_attribute("datetime")) for moment in page.find_elements(By.CSS_SELECTOR, ".story time")]
    assert times == sorted(times)
    page.find_element(By.CSS_SELECTOR, ".story summary").click()
    see(page, "Ada")
    no_violations(page)
    screenshot(page, "console-order-light")

    press(page, "Orders")
    see(page, "payment failed")
    no_violations(page)
    screenshot(page, "console-orders-light")
    page.get(f"{brewline.home}/ops#/orders/{declined}")
    see(page, "The payment was declined")

    phone = signed_in(window(**PHONE, scheme="dark", language="de"))
    phone.get(f"{brewline.home}/ops#/orders/{order}")
    see(phone, "Was geschah")
    no_violations(phone)
    screenshot(phone, "console-order-phone-dark-german")
    assert phone.execute_script(WIDTH) <= PHONE["width"]


def test_why_a_payment_and_a_message_failed_is_told_in_one_column_of_time(
    brewline: Brewline, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take
):
    with fault(brewline, "smtp", status=550):
        order = brewline.order("tok_declined")["orderId"]
        page = signed_in(window(height=2600), to=f"/ops#/orders/{order}")
        see(page, "The payment was declined")
        see(page, "could not be told")
    screenshot(page, "console-order-failed-light")
    for kind in ("Log", "Trace"):
        click(page, By.XPATH, f"//button[starts-with(normalize-space(), {kind!r})]")
    see(page, "notification.send")
    screenshot(page, "console-order-failed-all-light")
    no_violations(page)
    times = [str(moment.get_attribute("datetime")) for moment in page.find_elements(By.CSS_SELECTOR, ".story time")]
    assert times == sorted(times)
