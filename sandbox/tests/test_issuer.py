"""The development token issuer: its keys, its endpoint and its command line."""

import base64
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import jwt
import pytest

from sandbox import token as command_line
from sandbox.keys import KeyRing

from .conftest import Outside, running, settings_in

JWKS = "/.well-known/jwks.json"
CREDENTIALS = ("a-service", "any secret")


def ask(outside: Outside, **fields: str) -> httpx.Response:
    return outside.http.post("/oauth/token", data={"grant_type": "client_credentials"} | fields, auth=CREDENTIALS)


def granted(outside: Outside, **fields: str) -> str:
    return ask(outside, **fields).json()["access_token"]


def jwks(outside: Outside) -> dict[str, Any]:
    return outside.http.get(JWKS).json()


def verified(token: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """The claims, as a service takes them; raises what PyJWT raises."""
    key = jwt.PyJWKSet.from_dict(dict(keys))[jwt.get_unverified_header(token)["kid"]]
    required = ["iss", "aud", "sub", "iat", "nbf", "exp", "jti"]
    return jwt.decode(
        token,
        key,
        algorithms=["RS256"],
        audience="brewline",
        issuer="http://localhost:8009",
        options={"require": required},
    )


def command(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  # our own module
        [sys.executable, "-m", "sandbox.token", *arguments],
        env=os.environ | {"SANDBOX_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def key_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_the_public_half_of_a_key_is_published(outside: Outside):
    for key in jwks(outside)["keys"]:
        assert set(key) == {"kty", "n", "e", "kid", "use", "alg"}
        assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")


def test_a_token_is_verified_with_what_is_published(outside: Outside):
    answer = ask(outside, scope="orders payments")

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    claims = verified(body.pop("access_token"), jwks(outside))
    assert body == {"token_type": "Bearer", "expires_in": 3600, "scope": "orders payments"}
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["nbf"] == claims["iat"]
    assert (claims["sub"], claims["roles"]) == ("a-service", ["user"])
    assert (claims["tenant"], claims["tenant_name"]) == ("default", "Default")


def test_a_token_speaks_of_whom_it_was_asked_to(outside: Outside):
    token = granted(outside, role="staff", sub="u-1", tenant="acme", tenant_name="Ann's Café & Co")

    claims = verified(token, jwks(outside))

    assert (claims["sub"], claims["roles"]) == ("u-1", ["staff"])
    assert (claims["tenant"], claims["tenant_name"]) == ("acme", "Ann's Café & Co")
    assert verified(granted(outside), jwks(outside))["jti"] != claims["jti"]


@pytest.mark.parametrize(("tenant", "name"), [("north-side", "North Side"), ("a.B_c", "A B C"), ("...", "...")])
def test_a_tenant_without_a_name_gets_one(outside: Outside, tenant: str, name: str):
    assert verified(granted(outside, tenant=tenant), jwks(outside))["tenant_name"] == name


def test_a_field_without_a_value_is_as_good_as_none(outside: Outside):
    claims = verified(granted(outside, role="", tenant="", unknown="x"), jwks(outside))

    assert (claims["roles"], claims["tenant"]) == (["user"], "default")


def test_a_client_may_show_itself_in_the_form_or_the_header(outside: Outside):
    grant = {"grant_type": "client_credentials"}
    in_form = outside.http.post("/oauth/token", data=grant | {"client_id": "in form", "client_secret": "s"})
    encoded = outside.http.post("/oauth/token", data=grant, auth=("a%3Ab+c", "s"))

    assert verified(in_form.json()["access_token"], jwks(outside))["sub"] == "in form"
    assert verified(encoded.json()["access_token"], jwks(outside))["sub"] == "a:b c"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"role": "root"}, "invalid_request"),
        ({"sub": "é"}, "invalid_request"),
        ({"sub": "x" * 256}, "invalid_request"),
        ({"tenant": "a/b"}, "invalid_request"),
        ({"tenant": "a\n"}, "invalid_request"),
        ({"tenant": "x" * 65}, "invalid_request"),
        ({"tenant_name": "a\nb"}, "invalid_request"),
        ({"scope": "a  b"}, "invalid_request"),
        ({"client_secret": "twice"}, "invalid_request"),
        ({"client_id": "another"}, "invalid_request"),
        ({"padding": "x" * 16_384}, "invalid_request"),
        ({f"field-{number}": "x" for number in range(32)}, "invalid_request"),
    ],
)
def test_a_bad_form_is_refused_as_oauth_has_it(outside: Outside, fields: dict[str, str], error: str):
    refused = ask(outside, **fields)

    assert (refused.status_code, refused.json()["error"]) == (400, error)
    assert set(refused.json()) == {"error", "error_description"}
    assert refused.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"grant_type",
        b"grant_type=client_credentials&grant_type=client_credentials",
        b"grant_type=client_credentials&role=&role=admin",
        b"grant_type=client_credentials&sub=%ff",
        b"grant_type=client_credentials&sub=\xff",
    ],
)
def test_what_is_no_form_is_refused(outside: Outside, content: bytes):
    headers = {"content-type": "application/x-www-form-urlencoded"}
    refused = outside.http.post("/oauth/token", content=content, headers=headers, auth=CREDENTIALS)

    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")


def test_json_is_no_form(outside: Outside):
    refused = outside.http.post("/oauth/token", json={"grant_type": "client_credentials"}, auth=CREDENTIALS)

    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic !",
        "Basic é",
        "Bearer " + base64.b64encode(b"a:b").decode(),
        "Basic " + base64.b64encode(b"no-secret:").decode(),
        "Basic " + base64.b64encode(b":no-id").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
    ],
)
def test_a_client_has_to_show_an_id_and_a_secret(outside: Outside, header: str | None):
    headers = {} if header is None else {b"authorization": header.encode("latin-1")}
    refused = outside.http.post("/oauth/token", data={"grant_type": "client_credentials"}, headers=headers)

    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert refused.headers["www-authenticate"] == 'Basic realm="sandbox"'


def test_the_configuration_leads_to_the_keys_and_the_tokens(outside: Outside):
    found = outside.http.get("/.well-known/openid-configuration").json()

    assert found["issuer"] == "http://localhost:8009"
    assert httpx.get(found["jwks_uri"]).json() == jwks(outside)
    form = {"grant_type": found["grant_types_supported"][0]}
    token = httpx.post(found["token_endpoint"], data=form, auth=CREDENTIALS).json()["access_token"]
    assert jwt.get_unverified_header(token)["alg"] in found["id_token_signing_alg_values_supported"]


def test_the_front_page_says_how_to_get_a_token(outside: Outside):
    front = outside.http.get("/").text

    assert "make -s token ROLE=staff" in front
    assert f"{outside.http.base_url}/oauth/token".replace("//oauth", "/oauth") in front
    assert f'href="{JWKS}"' in front


def test_after_a_rotation_former_tokens_stay_good_and_the_next_one_ends_them(outside: Outside):
    former = granted(outside)
    kid = outside.http.post("/sandbox/issuer/rotate").json()["kid"]
    newer = granted(outside)

    assert jwt.get_unverified_header(newer)["kid"] == kid != jwt.get_unverified_header(former)["kid"]
    assert [verified(token, jwks(outside))["sub"] for token in (former, newer)] == ["a-service"] * 2

    outside.http.post("/sandbox/issuer/rotate")

    assert len(jwks(outside)["keys"]) == 2
    assert verified(newer, jwks(outside))
    with pytest.raises(KeyError):
        verified(former, jwks(outside))


def test_keys_outlive_a_reset_and_a_restart(tmp_path: Path):
    settings = settings_in(tmp_path)
    with running(settings) as outside:
        token = granted(outside)
        outside.http.post("/sandbox/issuer/rotate")
        keys = jwks(outside)
        outside.reset()
        assert jwks(outside) == keys

    with running(settings) as outside:
        assert jwks(outside) == keys
        assert verified(token, jwks(outside))


def test_a_key_is_for_its_owner_alone_and_nothing_else_is_left_behind(tmp_path: Path):
    ring = KeyRing(tmp_path / "deep" / "data")
    ring.published()
    for _ in range(3):
        ring.rotate()

    assert key_files(tmp_path / "deep" / "data") == ["issuer-3.pem", "issuer-4.pem"]
    for path in (tmp_path / "deep" / "data").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_is_named_by_its_thumbprint(tmp_path: Path):
    [key] = KeyRing(tmp_path).published()

    public = key.jwk()
    members = f'{{"e":"{public["e"]}","kty":"RSA","n":"{public["n"]}"}}'
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).decode()
    assert key.kid == public["kid"] == thumbprint.rstrip("=")


def test_threads_that_come_first_together_share_one_key(tmp_path: Path):
    gate = Barrier(8)

    def first_use(_: int) -> str:
        gate.wait()
        [key] = KeyRing(tmp_path).published()
        return key.kid

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(first_use, range(8)))) == 1
    assert key_files(tmp_path) == ["issuer-1.pem"]


def test_processes_that_come_first_together_share_one_key(tmp_path: Path):
    with ThreadPoolExecutor(4) as pool:
        made = [*pool.map(lambda _: command(tmp_path), range(4))]

    assert len({jwt.get_unverified_header(one.stdout.strip())["kid"] for one in made}) == 1


def test_there_is_always_a_key_while_others_rotate(tmp_path: Path):
    KeyRing(tmp_path).published()
    with ThreadPoolExecutor(2) as pool:
        rotations = [pool.submit(KeyRing(tmp_path).rotate) for _ in range(6)]
        while not all(rotation.done() for rotation in rotations):
            assert len(KeyRing(tmp_path).published()) in {1, 2}

    assert KeyRing(tmp_path).published()[0].kid in {rotation.result().kid for rotation in rotations}
    assert len(key_files(tmp_path)) == 2


def test_the_command_line_signs_with_the_running_sandboxs_newest_key(outside: Outside):
    outside.http.post("/sandbox/issuer/rotate")
    arguments = ("--role", "staff", "--sub", "u-1", "--tenant", "acme", "--tenant-name", 'Ann\'s "Acme"')

    made = command(outside.settings.data_dir, *arguments, "--lifetime", "60")

    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.count("\n") == 1
    token = made.stdout.strip()
    claims = verified(token, jwks(outside))
    assert (claims["sub"], claims["roles"]) == ("u-1", ["staff"])
    assert (claims["tenant"], claims["tenant_name"]) == ("acme", 'Ann\'s "Acme"')
    assert claims["exp"] - claims["iat"] == 60
    assert jwt.get_unverified_header(token)["kid"] == jwks(outside)["keys"][0]["kid"]


def test_the_command_line_needs_no_sandbox_and_makes_the_key_it_will_find(tmp_path: Path):
    token = command(tmp_path, "--role", "admin").stdout.strip()

    with running(settings_in(tmp_path)) as outside:
        claims = verified(token, jwks(outside))
    assert (claims["sub"], claims["roles"], claims["tenant_name"]) == ("dev-admin", ["admin"], "Default")
    assert claims["exp"] - claims["iat"] == 8 * 3600


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--role", "root"], "choose from"),
        (["--tenant", "a b"], "tenant"),
        (["--sub", "é"], "sub"),
        (["--tenant-name", "\x07"], "tenant_name"),
        (["--lifetime", "0"], "seconds"),
        (["--lifetime", "1e3"], "seconds"),
        (["--lifetime", "9" * 5000], "seconds"),
    ],
)
def test_the_command_line_refuses_what_can_not_be(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
):
    monkeypatch.setenv("SANDBOX_DATA_DIR", str(tmp_path))
    with pytest.raises(SystemExit) as refused:
        command_line.main(arguments)

    shown = capsys.readouterr()
    assert (refused.value.code, shown.out) == (2, "")
    assert said in shown.err
    assert key_files(tmp_path) == []


def test_the_command_line_names_a_key_it_can_not_use(tmp_path: Path):
    (tmp_path / "issuer-1.pem").write_text("no key")

    refused = command(tmp_path)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert str(tmp_path) in refused.stderr
    assert "Traceback" not in refused.stderr
