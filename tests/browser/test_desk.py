"""The console's desks: what an administrator mends, gives back, publishes and has tried again."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from windows import Brewline, Open, Window, click, go, press, see, wait

from chassis.ids import new_id, now

Sign = Callable[..., Window]
Check = Callable[[Window], None]
Take = Callable[[Window, str], None]


def eventually(page: Window, read: Callable[[], Any]) -> Any:
    return wait(page).until(lambda _: read())


def write(page: Window, where: str, text: str) -> None:
    """In the place of what stands there, as somebody would who pastes it."""
    script = """const field = document.querySelector(arguments[0]);
        if (field) { field.value = arguments[1]; field.dispatchEvent(new Event("input", {bubbles: true})); }
        return field !== null;"""
    wait(page).until(lambda page: page.execute_script(script, where, text), f"no {where} to write into")


def test_a_dead_letter_is_edited_and_replayed_and_arrives(
    brewline: Brewline, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take
):
    order_id, event_id = new_id(), new_id()
    customer = {"id": "c-dead", "name": "Grace", "email": "grace@example.com"}
    total = {"amount": "9.00", "currency": "USD"}
    data = {
        "version": -1,
        "orderId": order_id,
        "status": "confirmed",
        "customer": customer,
        "items": [],
        "total": total,
    }
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": "order-service",
        "type": "order.confirmed.v1",
        "data": data,
    }
    brewline.publish("orders", event)
    page = signed_in(window(), "admin")
    go(page, brewline, "dead-letters")
    click(page, By.LINK_TEXT, "order.confirmed.v1")
    see(page, "not a count")
    no_violations(page)
    screenshot(page, "desk-dead-letter")

    write(page, "textarea.code", json.dumps(data | {"version": 2}))
    press(page, "Save and replay")

    see(page, "notification-service has processed it.")
    with brewline.client("notification-service") as client:
        path = f"/api/v1/notifications?subjectId={order_id}"
        (message,) = eventually(page, lambda: client.get(path).json()["items"])
    assert message["recipientId"] == "c-dead"
    see(page, "Before and after")
    see(page, "edited")


def test_letters_are_chosen_and_discarded_for_a_reason(
    brewline: Brewline, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take
):
    for number in range(2):
        poison = {
            "specversion": "1.0",
            "id": f"{new_id()}",
            "source": f"/s/{number}",
            "type": "order.shipped.v1",
            "data": {},
        }
        brewline.publish("orders", poison)
    page = signed_in(window(width=390, height=844, scheme="dark"), "admin")
    go(page, brewline, "dead-letters?type=order.shipped.v1")
    wait(page).until(lambda page: len(page.find_elements(By.CSS_SELECTOR, "tbody tr")) == 2)
    no_violations(page)
    screenshot(page, "desk-dead-letters-phone-dark")
    click(page, By.CSS_SELECTOR, ".many input")
    press(page, "Discard")
    page.find_element(By.CSS_SELECTOR, "dialog[open] input").send_keys("of a test")
    no_violations(page)
    screenshot(page, "desk-discard-phone-dark")
    click(page, By.CSS_SELECTOR, "dialog[open] button[type=submit]")
    see(page, "No dead letters")

    with brewline.client("notification-service") as client:
        listed = client.get("/api/v1/dead-letters?type=order.shipped.v1").json()["items"]
        assert {letter["status"] for letter in listed} == {"discarded"}
        (move,) = client.get(f"/api/v1/dead-letters/{listed[0]['id']}/history").json()["items"]
    assert move["reason"] == "of a test"


def test_a_part_of_a_payment_is_given_back_once_and_every_move_and_the_days_report_are_there(
    *, brewline: Brewline, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take, tmp_path: Path
):
    payment_id = brewline.paid()["payment"]["id"]
    page = signed_in(window(), "admin")
    go(page, brewline, f"money/{payment_id}")
    write(page, "input[name=amount]", "1.50")
    press(page, "Refund")
    see(page, "Refund $1.50?")
    click(page, By.CSS_SELECTOR, "dialog[open] button[type=submit]")

    see(page, "Refund of $1.50")
    see(page, "partially refunded")
    no_violations(page)
    screenshot(page, "desk-payment")
    with brewline.client("payment-service") as client:
        (refund,) = client.get(f"/api/v1/payments/{payment_id}/refunds").json()["items"]
        moves = client.get(f"/api/v1/payments/{payment_id}/moves").json()["items"]
    assert refund["amount"]["amount"] == "1.50"
    wait(page).until(lambda page: len(page.find_elements(By.CSS_SELECTOR, ".moves li")) == len(moves))

    go(page, brewline, "money")
    press(page, "Show the sums")
    see(page, "How many")
    places = [page.find_element(By.XPATH, f"//{name}").location["y"] for name in ("h1", "h2[.='Settlement report']")]
    assert places == sorted(places)
    no_violations(page)
    screenshot(page, "desk-money")

    keep = {"behavior": "allow", "downloadPath": os.fspath(tmp_path)}
    page.execute_cdp_cmd("Browser.setDownloadBehavior", keep)
    press(page, "CSV")
    (report,) = eventually(page, lambda: list(tmp_path.glob("settlement-*.csv")))
    assert payment_id in report.read_text()
    press(page, "Excel")
    (book,) = eventually(page, lambda: list(tmp_path.glob("settlement-*.xlsx")))
    assert zipfile.is_zipfile(book)


def test_a_template_is_edited_beside_its_preview_and_published(
    brewline: Brewline, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take
):
    page = signed_in(window(height=1400), "admin")
    go(page, brewline, "templates?category=Account")
    click(page, By.LINK_TEXT, "welcome")
    write(page, "input[name=subject]", "A warm welcome to the desk")
    wait(page).until(lambda page: "A warm welcome" in page.find_element(By.CSS_SELECTOR, ".letter-subject").text)
    no_violations(page)
    screenshot(page, "desk-template")

    press(page, "Save as a draft")
    see(page, "Saved as a draft.")
    press(page, "Publish")
    click(page, By.CSS_SELECTOR, "dialog[open] button[type=submit]")
    see(page, "is sent from now on.")
    with brewline.client("notification-service") as client:
        kept = client.get("/api/v1/templates/Account/welcome?locale=en").json()
    assert (kept["status"], kept["source"]["subject"]) == ("published", "A warm welcome to the desk")
    go(page, brewline, "templates")
    see(page, "Version 1")
    no_violations(page)
    screenshot(page, "desk-templates")


def test_a_failed_saga_is_tried_again_from_the_step_that_failed(
    brewline: Brewline, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take
):
    """What takes half an hour to fail for good is written down here as if it had."""
    application = f"LA-{new_id()}"
    data = {
        "eventId": new_id(),
        "eventTimestamp": now().isoformat(),
        "applicationId": application,
        "customerId": f"c-{application[-6:]}",
        "requestedAmount": 1000,
        "productType": "Loan",
        "branchId": "B-1",
        "customerName": "Ada",
        "customerPhone": "+254711000001",
        "customerEmail": "ada@example.com",
    }
    event = {"specversion": "1.0", "id": new_id(), "source": "/loans", "type": "LoanApplicationCreated", "data": data}
    brewline.publish("loan-origination", event)
    page = signed_in(window(), "admin")
    with brewline.client("notification-service") as client:

        def saga() -> Any:
            found = client.get("/api/v1/sagas").json()["items"]
            return next((one for one in found if one["subjectId"] == application), None)

        told = eventually(page, lambda: (one := saga()) and one["status"] == "completed" and one)
        step = told["steps"][-1]["step"]
        incident = (
            "INSERT INTO incidents (tenant, saga_id, step, at, error, stops)"
            " VALUES ('default', ?, ?, '2026-01-01 00:00:00.000000', 'TemplateBroken', FALSE)"
        )
        brewline.write("notification", incident, told["id"], step)
        go(page, brewline, "sagas")
        see(page, "stands still")
        no_violations(page)
        screenshot(page, "desk-sagas")
        click(page, By.XPATH, "//p[contains(., 'Messages told in turn')]/a")
        click(page, By.LINK_TEXT, told["id"])
        press(page, "Try again")
        click(page, By.CSS_SELECTOR, "dialog[open] button[type=submit]")
        see(page, "Tried again by alex")
        no_violations(page)
        screenshot(page, "desk-saga")
        assert eventually(
            page, lambda: (one := saga()) and one["status"] == "completed" and one["version"] > told["version"]
        )


def test_the_sandbox_goes_wrong_by_per_cent_and_orders_come_by_the_second(
    brewline: Brewline, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take
):
    page = signed_in(window(), "admin")
    go(page, brewline, "sandbox")
    sms = wait(page).until(lambda page: page.find_element(By.XPATH, "//fieldset[legend='sms']"))
    Select(sms.find_element(By.TAG_NAME, "select")).select_by_value("error")
    wait(page).until(lambda _: sms.find_element(By.TAG_NAME, "input").is_enabled())
    share = sms.find_element(By.TAG_NAME, "input")
    share.clear()
    share.send_keys("30", Keys.TAB)
    press(page, "Start")
    wait(page).until(lambda page: "Placed" in page.find_element(By.TAG_NAME, "main").text)
    no_violations(page)
    screenshot(page, "desk-sandbox")
    faults = httpx.get(f"{brewline.stack.url('sandbox')}/sandbox/faults", trust_env=False).json()
    assert (faults["sms"]["mode"], faults["sms"]["rate"]) == ("error", 0.3)

    sms.find_element(By.TAG_NAME, "input").send_keys(Keys.CONTROL, "a", Keys.NULL, "4")
    renewed = page.find_element(By.CSS_SELECTOR, ".heading p").text
    wait(page).until(lambda page: page.find_element(By.CSS_SELECTOR, ".heading p").text != renewed)
    assert sms.find_element(By.TAG_NAME, "input").get_attribute("value") == "4"  # what is being written stays
    press(page, "All well again")


def test_bulk_is_shown_with_what_became_of_everybody(
    brewline: Brewline, window: Open, signed_in: Sign, no_violations: Check, screenshot: Take
):
    with brewline.client("notification-service") as client:
        known = {"name": "Ada", "email": "ada@example.com", "version": 0}
        client.put("/api/v1/recipients/c-bulk", json=known)
        wanted = {"channel": "email", "templateCategory": "System", "templateName": "test"}
        recipients = [{"recipientId": "c-bulk"}, {"recipientId": "c-nobody"}]
        client.post("/api/v1/notifications/bulk", json=wanted | {"recipients": recipients}).raise_for_status()
    page = signed_in(window(scheme="dark", language="de"), "admin")
    go(page, brewline, "bulk")
    click(page, By.CSS_SELECTOR, "tbody a")
    see(page, "c-nobody")
    see(page, "Fertig")
    no_violations(page)
    screenshot(page, "desk-bulk-dark")
