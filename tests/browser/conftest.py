"""Real windows on a real Brewline: everything that `dapr.yaml` names, on ports of its own, once for all tests here."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium import webdriver
from windows import NODE_MODULES, ROOT, Brewline, Open, Window, sign_in, stack_of

SCREENSHOTS = ROOT / "var" / "screenshots"
ALONE = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--force-prefers-reduced-motion",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser/" in item.nodeid:
            item.add_marker("more")


@pytest.fixture(scope="session")
def brewline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brewline]:
    with stack_of(tmp_path_factory.mktemp("browser"), traced=True) as stack:
        yield Brewline(stack=stack)


@pytest.fixture
def window() -> Iterator[Open]:
    """Opens a Chromium with nothing in it: no cookie, no history. Whatever the pages did, no policy was broken."""
    with contextlib.ExitStack() as opened:

        def open_window(*, width: int = 1280, height: int = 900, scheme: str = "light", language: str = "en") -> Window:
            driver = webdriver.Chrome(
                options=_options(language), service=webdriver.ChromeService("/usr/bin/chromedriver")
            )
            opened.callback(driver.quit)
            opened.callback(_nothing_was_blocked, driver)
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            return driver

        yield open_window


def _options(language: str) -> webdriver.ChromeOptions:
    options = webdriver.ChromeOptions()
    for argument in (*ALONE, f"--lang={language}"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"intl.accept_languages": language})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return options


def _nothing_was_blocked(driver: Window) -> None:
    said: list[dict[str, Any]] = driver.get_log("browser")
    assert [entry for entry in said if "Content Security Policy" in entry["message"]] == []
    assert [entry for entry in said if "Uncaught" in entry["message"]] == []


@pytest.fixture(scope="session")
def signed_in(brewline: Brewline) -> Callable[..., Window]:
    """Signs in at `brewline`: `sign_in`, staff where no role is named."""

    def of_brewline(window: Window, role: str = "staff", **more: str) -> Window:
        return sign_in(brewline, window, role, **more)

    return of_brewline


@pytest.fixture(scope="session")
def no_violations() -> Callable[[Window], None]:
    """axe finds nothing on the page as it is now: WCAG 2.2 A and AA, and its best practices."""
    axe = (NODE_MODULES / "axe-core" / "axe.min.js").read_text()

    def check(window: Window) -> None:
        window.execute_script(axe)
        found = window.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
        told = [
            f"{each['id']}: {each['help']}: {node['html'][:200]} {node['failureSummary']}"
            for each in found["violations"]
            for node in each["nodes"]
        ]
        assert told == []

    return check


@pytest.fixture(scope="session")
def screenshot() -> Callable[[Window, str], None]:
    """Kept in `var/screenshots/`, for people to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    def take(window: Window, name: str) -> None:
        window.save_screenshot(os.fspath(SCREENSHOTS / f"{name}.png"))

    return take
