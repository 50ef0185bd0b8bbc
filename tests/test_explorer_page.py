"""The explorer of every service in a real browser, on a machine that may have no internet."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

import contracts
from stack.local import free_port

pytestmark = pytest.mark.more
ALONE = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for argument in ALONE:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


@pytest.fixture(params=contracts.services())
def served(request: pytest.FixtureRequest) -> Iterator[tuple[FastAPI, str]]:
    """The service's own application, beside no sidecar: its pages ask for none."""
    app, port = contracts.services()[request.param], free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    yield app, f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def test_it_shows_every_operation_an_example_and_a_field_for_the_token(
    browser: webdriver.Chrome, served: tuple[FastAPI, str]
) -> None:
    app, url = served
    paths = app.openapi()["paths"]
    browser.get(f"{url}/docs")
    wait = WebDriverWait(browser, 30)
    wait.until(lambda page: len(page.find_elements(By.CLASS_NAME, "opblock")) == sum(map(len, paths.values())))

    for control in browser.find_elements(By.CSS_SELECTOR, ".opblock-post .opblock-summary-control"):
        control.click()  # not every one takes a body
    filled = wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, ".opblock-post textarea"))[0]
    assert '": ' in str(filled.get_property("value"))

    browser.find_element(By.CSS_SELECTOR, ".btn.authorize").click()
    wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, ".auth-container input"))

    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(name.startswith(("data:", f"{url}/")) for name in loaded)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
