"""Signing in at an issuer that is not ours, as strict as it comes: npm's oidc-provider."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from selenium.webdriver.common.by import By
from windows import NODE_MODULES, ROOT, Brewline, Open, press, see, stack_of, wait

from stack.local import free_port, http_ok, wait_until

SECRET = "a secret: of the tests & theirs"
TOKENS = """
const [wait, done] = arguments;
import("/web/shared/session.js").then(async ({token}) => {
  const first = [await token(), await token()];
  setTimeout(async () => done([...first, await token()]), wait);
});
"""


def components_with(address: str, folder: Path) -> Path:
    """`components/`, with the issuer at `address`: what an overlay patches."""
    shutil.copytree(ROOT / "components", folder)
    file = folder / "endpoints.yaml"
    documents = list(yaml.safe_load_all(file.read_text()))
    for document in documents:
        if document["metadata"]["name"] in {"issuer", "issuer-token"}:
            document["spec"]["baseUrl"] = address
    file.write_text(yaml.safe_dump_all(documents))
    return folder


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brewline]:
    """The back office and order, which believe another issuer."""
    folder, port = tmp_path_factory.mktemp("foreign"), free_port()
    address = f"http://localhost:{port}"
    stack = stack_of(
        folder,
        apps=["backoffice-service", "order-service"],
        components=components_with(address, folder / "given"),
        AUTH_ISSUER=address,
        AUTH_JWKS_PATH="jwks",
        BACKOFFICE_CLIENT_ID="brewline-pages",
        BACKOFFICE_SIGN_IN_PARAMETERS=json.dumps({"resource": "urn:brewline", "prompt": "consent"}),
    )
    secrets = folder / "var" / "secrets.json"
    known = json.loads(secrets.read_text())
    known["backoffice-service"]["client-secret"] = SECRET
    secrets.write_text(json.dumps(known))
    brewline = Brewline(stack=stack)
    script = Path(__file__).with_name("foreign_issuer.mjs")
    issuer = subprocess.Popen(["node", script, NODE_MODULES.parent, str(port), brewline.home, SECRET])
    try:
        wait_until(lambda: http_ok(f"{address}/.well-known/openid-configuration"), within=30, what="oidc-provider")
        with stack:
            yield brewline
    finally:
        issuer.terminate()
        issuer.wait(timeout=10)


def test_one_signs_in_stays_signed_in_in_many_tabs_and_signs_out(elsewhere: Brewline, window: Open):
    page = window()
    page.get(f"{elsewhere.home}/ops")
    press(page, "Sign in")
    wait(page).until(lambda page: page.find_elements(By.NAME, "login"))[0].send_keys("grace")
    page.find_element(By.NAME, "password").send_keys("any")
    page.find_element(By.CSS_SELECTOR, "form button").click()
    press(page, "Continue")
    see(page, "grace")

    for _ in range(3):
        page.execute_script(f"window.open('{elsewhere.home}/ops')")
    for tab in page.window_handles:
        page.switch_to.window(tab)
        see(page, "grace")
    # A token is used for most of its life, and then replaced; other services believe it too.
    token, same, other = page.execute_async_script(TOKENS, 5500)
    assert (token == same, token == other) == (True, False)
    bearer = {"Authorization": f"Bearer {other}"}
    orders = httpx.get(f"{elsewhere.stack.url('order-service')}/api/v1/orders", headers=bearer, trust_env=False)
    assert orders.status_code == 200, orders.text

    press(page, "Sign out")
    press(page, "Yes, sign me out")
    see(page, "Sign in")
    assert page.current_url == f"{elsewhere.home}/"
    assert page.execute_script("return fetch('/auth/token', {method: 'POST'}).then(answer => answer.status)") == 204
