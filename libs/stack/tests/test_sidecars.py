"""A stack of real sidecars around the smallest app there is: tokens, secrets, replicas."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from stack.eventually import eventually
from stack.local import LocalError
from stack.sidecars import AppSpec, Stack

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[3]
# Tells who it is and which token it was shown, whatever it is asked.
ECHO = """
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        known = {key: os.environ[key] for key in ("NAME", "APP_ID", "APP_API_TOKEN", "DAPR_API_TOKEN")}
        body = json.dumps({**known, "shown": self.headers.get("dapr-api-token", "")}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Echo).serve_forever()
"""
COMPONENTS = {
    "config.yaml": "{apiVersion: dapr.io/v1alpha1, kind: Configuration, metadata: {name: test}, spec: {}}",
    "outside.yaml": """
        apiVersion: dapr.io/v1alpha1
        kind: HTTPEndpoint
        metadata: {name: outside}
        spec: {baseUrl: "http://localhost:8009"}
        """,
    "secretstore.yaml": """
        apiVersion: dapr.io/v1alpha1
        kind: Component
        metadata: {name: secrets}
        spec:
          type: secretstores.local.file
          version: v1
          metadata:
            - {name: secretsFile, value: var/secrets.json}
            - {name: multiValued, value: "true"}
        """,
}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "mtls"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("echo")
    (folder / "echo.py").write_text(ECHO)
    (folder / "given").mkdir()
    for name, text in COMPONENTS.items():
        (folder / "given" / name).write_text(text)

    def app(app_id: str, name: str, known_as: str | None = None) -> AppSpec:
        env = {"PYTHONPATH": str(folder), "NAME": name}
        return AppSpec(app_id=app_id, name=name, module="echo", env=env, known_as=known_as, secrets={"key": "a,b"})

    with Stack(
        apps=[app("one", "one", "localhost:8009"), app("two", "two-a"), app("two", "two-b")],
        components=folder / "given",
        run_dir=folder,
        tools_bin=ROOT / "tools" / "bin",
        mtls=request.param,
    ) as running:
        yield running


@pytest.fixture
async def sidecar(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    token = {"dapr-api-token": stack.dapr_token}
    async with httpx.AsyncClient(base_url=stack.sidecar_url("one"), headers=token, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("token", [{}, {"dapr-api-token": "another"}])
async def test_a_sidecar_serves_only_who_shows_its_token(stack: Stack, token: dict[str, str]):
    async with httpx.AsyncClient(base_url=stack.sidecar_url("one"), headers=token, trust_env=False) as client:
        assert (await client.get("/v1.0/secrets/secrets/one")).status_code == 401
        assert (await client.get("/v1.0/invoke/two/method/x")).status_code == 401
        assert (await client.get("/v1.0/healthz")).status_code == 204


async def test_an_app_is_shown_its_own_token_and_never_the_callers(stack: Stack, sidecar: httpx.AsyncClient):
    said = (await sidecar.get("/v1.0/invoke/two/method/x")).json()

    assert said["shown"] == said["APP_API_TOKEN"] == stack.app_token
    assert said["DAPR_API_TOKEN"] == stack.dapr_token


async def test_the_world_outside_is_shown_no_token(sidecar: httpx.AsyncClient):
    assert (await sidecar.get("/v1.0/invoke/outside/method/x")).json()["shown"] == ""


async def test_secrets_come_from_a_file_of_the_stacks_own(stack: Stack, sidecar: httpx.AsyncClient):
    assert (await sidecar.get("/v1.0/secrets/secrets/one")).json() == {"key": "a,b"}
    assert (await sidecar.get("/v1.0/secrets/secrets/redis")).json() == {"password": ""}
    assert (stack.run_dir / "secrets.json").stat().st_mode & 0o777 == 0o600


async def test_replicas_are_told_apart_by_name_and_called_as_one(stack: Stack, sidecar: httpx.AsyncClient):
    assert stack.url("two-a") != stack.url("two-b")
    heard: dict[str, str] = {}

    async def both() -> bool:
        said = (await sidecar.get("/v1.0/invoke/two/method/x")).json()
        heard[said["NAME"]] = said["APP_ID"]
        return len(heard) == 2

    await eventually(both, within=20, every=0.05)
    assert heard == {"two-a": "two", "two-b": "two"}


def test_a_stack_whose_app_ends_says_which_and_what_it_wrote_last(tmp_path: Path):
    (tmp_path / "config.yaml").write_text(COMPONENTS["config.yaml"])
    command = [sys.executable, "-c", "print('no database'); raise SystemExit(3)"]
    stack = Stack(
        apps=[AppSpec(app_id="one", command=command)],
        components=tmp_path,
        run_dir=tmp_path / "run",
        tools_bin=ROOT / "tools" / "bin",
        cwd=tmp_path,
    )

    with pytest.raises(LocalError, match=r"^one ended with code 3; .*one\.log ends:\nno database$"), stack:
        pass
