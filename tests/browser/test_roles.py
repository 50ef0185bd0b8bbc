"""Staff without the administrator's role: what they see, and what they are told of the rest."""

from collections.abc import Callable

from selenium.webdriver.common.by import By
from windows import Brewline, Open, Window, go, see, wait

Sign = Callable[..., Window]
Check = Callable[[Window], None]
Take = Callable[[Window, str], None]


def test_staff_look_into_everything_that_is_theirs_and_are_told_what_is_not(
    brewline: Brewline, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take
):
    payment_id = brewline.paid()["payment"]["id"]
    owed = brewline.owed_for_good()
    page = signed_in(window(), "staff")

    names = [link.text for link in page.find_elements(By.CSS_SELECTOR, "nav.pages a")]
    assert not {"Dead letters", "Bulk", "Sandbox"} & set(names)
    for hidden in ("dead-letters", "bulk", "sandbox"):
        go(page, brewline, "now")
        see(page, "Orders a minute")
        go(page, brewline, hidden)
        see(page, "This page is for administrators")
    no_violations(page)
    screenshot(page, "roles-not-yours")

    for place, shown in (
        (f"money/{payment_id}", "Every move"),
        (f"sagas/order-service/{owed}", "refund failed"),
        ("templates/Account/welcome/en", "You may look"),
    ):
        go(page, brewline, place)
        see(page, shown)
        see(page, "You may look; acting is for administrators.")
        buttons = page.find_elements(By.CSS_SELECTOR, "main button")
        assert [button.text for button in buttons] == []
    wait(page).until(lambda page: page.find_element(By.CSS_SELECTOR, ".letter-subject").text)
    assert page.find_element(By.NAME, "subject").get_attribute("readonly")
    no_violations(page)
    screenshot(page, "roles-template")
    go(page, brewline, "money")
    see(page, "succeeded")
    assert "Settlement report" not in page.find_element(By.TAG_NAME, "body").text
