"""The console without a mouse: signing in, mending, and having things tried again."""

import json
from collections.abc import Callable
from typing import Any

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from windows import Brewline, Open, Window, see, wait

from chassis.ids import new_id

Take = Callable[[Window, str], None]

# Where the keys are: whether one sees it, and whether a dialog that is open holds them.
AT = """const at = document.activeElement, {outlineStyle, outlineWidth} = getComputedStyle(at);
    const {top, bottom} = at.getBoundingClientRect(), open = document.querySelector("dialog[open]");
    return {seen: at.matches(":focus-visible") && outlineStyle !== "none" && parseFloat(outlineWidth) > 0,
      within: bottom > 0 && top < innerHeight, page: at === document.body || at.id === "main",
      held: !open || open.contains(at)};"""


def keys(page: Window, *typed: str) -> None:
    ActionChains(page).send_keys(*typed).perform()


def at(page: Window) -> dict[str, Any]:
    return page.execute_script(AT)


def is_seen(page: Window) -> bool:
    here = at(page)
    return here["page"] or (here["seen"] and here["within"])


def go_to(page: Window, name: str) -> None:
    """By tabs alone; each that is passed is seen where it is."""
    for _ in range(80):
        keys(page, Keys.TAB)
        wait(page).until(is_seen, "the keys are where nobody sees them")
        if (page.switch_to.active_element.accessible_name or "").startswith(name):
            return
    raise AssertionError(f"no key leads to {name!r}")


def choose(page: Window, name: str) -> None:
    """Once it is there."""
    see(page, name)
    go_to(page, name)
    keys(page, Keys.ENTER)


def is_on(page: Window, name: str) -> None:
    wait(page).until(
        lambda page: name in page.switch_to.active_element.accessible_name, f"the keys are not on {name!r}"
    )


def test_by_keys_alone_a_dead_letter_is_mended_and_a_saga_is_tried_again(
    brewline: Brewline, window: Open, screenshot: Take
):
    order_id = brewline.owed_for_good()
    customer = {"id": "c-keys", "name": "Grace", "email": "grace@example.com"}
    data = {"version": -1, "orderId": new_id(), "status": "confirmed", "customer": customer, "items": []}
    data |= {"total": {"amount": "9.00", "currency": "USD"}}
    event = {
        "specversion": "1.0",
        "id": new_id(),
        "source": "order-service",
        "type": "order.confirmed.v1",
        "data": data,
    }
    brewline.publish("orders", event)

    page = window()
    page.get(f"{brewline.home}/ops")
    see(page, "Please sign in")
    keys(page, Keys.TAB)
    is_on(page, "Skip to the content")
    choose(page, "Sign in")
    see(page, "Who are you?")
    go_to(page, "Ada, a customer")
    keys(page, Keys.DOWN, Keys.DOWN, Keys.ENTER)

    choose(page, "Dead letters")
    choose(page, "order.confirmed.v1")
    see(page, "not a count")
    go_to(page, "What the event says")
    ActionChains(page).key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL).perform()
    keys(page, json.dumps(data | {"version": 2}))
    choose(page, "Save and replay")
    see(page, "notification-service has processed it.")
    is_on(page, "Replay")
    screenshot(page, "keys-dead-letter")

    choose(page, "Sagas")
    choose(page, "Show")
    choose(page, order_id)
    choose(page, "Try again")
    for _ in range(5):
        assert at(page)["held"] or at(page)["page"]  # beyond its last button is the browser's own bar
        keys(page, Keys.TAB)
    screenshot(page, "keys-dialog")
    keys(page, Keys.ESCAPE)
    is_on(page, "Try again")
    keys(page, Keys.ENTER)
    go_to(page, "Try again")
    keys(page, Keys.ENTER)
    see(page, "Tried again by alex")
    see(page, "completed")
    wait(page).until(lambda page: page.switch_to.active_element.get_attribute("id") == "main")  # its button is gone
    screenshot(page, "keys-saga")
