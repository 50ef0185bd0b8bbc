"""The page at /docs works without the internet, under a policy that lets nothing else in."""

import re

import httpx
import pytest

from chassis.app import create_app
from chassis.health import Health
from chassis.settings import ServiceSettings
from stack.fake_sidecar import FakeSidecar


@pytest.fixture
def client() -> httpx.AsyncClient:
    settings = ServiceSettings(app_port=1, dapr_http_port=1, app_api_token=16 * "x", rate_limit="")
    app = create_app(title="t", settings=settings, sidecar=FakeSidecar(), rules={}, health=Health({}), refusals={})
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def test_the_page_loads_only_what_we_serve(client: httpx.AsyncClient):
    page = await client.get("/docs")

    loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert len(loaded) == 3
    for path in loaded:
        file = await client.get(path)
        assert (file.status_code, len(file.content) > 100) == (200, True)
        assert "public" in file.headers["cache-control"]
    assert "//" not in "".join(loaded)
    assert "url: '/openapi.json'" in page.text


async def test_its_policy_lets_its_own_script_run_and_no_other(client: httpx.AsyncClient):
    policy = (await client.get("/docs")).headers["content-security-policy"]

    assert re.search(r"script-src 'self' 'sha256-[A-Za-z0-9+/]{43}='(;|$)", policy)
    assert "connect-src 'self'" in policy


async def test_no_other_file_is_served(client: httpx.AsyncClient):
    for name in ("redoc.standalone.js", "..%2Fcore.py", "%2e%2e%2fcore.py"):
        assert (await client.get(f"/docs/{name}")).status_code == 404
