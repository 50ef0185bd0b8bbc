"""The pages as a browser gets them: right types, nothing from outside the folder, nothing that runs inline."""

import re
from pathlib import Path

import httpx

import backoffice

WEB = Path(backoffice.__file__).parent / "web"
FILES = sorted(str(file.relative_to(WEB)) for file in WEB.rglob("*") if file.is_file())
TYPES = {".js": "javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


async def test_a_page_may_load_and_call_only_what_is_ours(client: httpx.AsyncClient):
    for path in ("/", "/ops"):
        page = await client.get(path)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "connect-src 'self' http://localhost:8001 http://localhost:8002 http://localhost:8003" in policy
        assert "unsafe" not in policy
        for asked in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert (await client.get(asked)).status_code == 200, asked


def test_no_page_runs_or_styles_anything_inline():
    for page in WEB.rglob("*.html"):
        text = page.read_text()
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text), page
        assert re.findall(r"<script(?![^>]*\ssrc=)", text) == [], page


async def test_every_file_has_its_type_and_is_asked_for_each_time(client: httpx.AsyncClient):
    for name in FILES:
        answer = await client.get(f"/web/{name}")
        assert answer.status_code == 200, name
        assert TYPES.get(Path(name).suffix, "") in answer.headers["content-type"], name
        assert answer.headers["cache-control"] == "no-cache"
        known = await client.get(f"/web/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (known.status_code, known.content) == (304, b""), name


OUTSIDE = (
    "../settings.py",
    "%2e%2e/settings.py",
    "..%2fsettings.py",
    "shared/../../settings.py",
    "/etc/passwd",
    "shared",
    "",
)


async def test_nothing_outside_the_folder_is_served(client: httpx.AsyncClient):
    for path in OUTSIDE:
        answer = await client.get(f"/web/{path}")
        assert (answer.status_code, answer.json()["errorType"]) == (404, "not-found"), path


async def test_the_pages_are_told_where_everything_is(client: httpx.AsyncClient):
    told = (await client.get("/web/config.json")).json()

    assert told["home"] == told["services"]["backoffice-service"] == "http://localhost:8005"
    assert told["services"]["order-service"] == "http://localhost:8001"
    assert told["sandbox"] is None


def test_what_every_module_imports_is_there():
    for module in WEB.rglob("*.js"):
        for asked in re.findall(r'(?:from|import)\s*\(?"([^"]+)"', module.read_text()):
            assert asked.startswith("/web/"), f"{module}: {asked}"
            assert (WEB / asked.removeprefix("/web/")).is_file(), f"{module}: {asked}"
