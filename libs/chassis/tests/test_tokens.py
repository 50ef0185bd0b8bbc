"""Only what the issuer signed for us, and for now, makes a caller; all else is a 401 that repeats nothing of it."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi import Depends, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from chassis.app import create_app
from chassis.edge.auth import Access, Caller, Role, current_caller
from chassis.edge.tokens import Keys, Tokens, keys_of
from chassis.health import Health
from chassis.problems import Problem, Unavailable
from chassis.settings import ServiceSettings
from chassis.sidecar import Answer
from stack.examples import examples
from stack.fake_sidecar import FakeSidecar
from stack.issuer import AUDIENCE, ISSUER, Issuer

JWKS = "issuer/.well-known/jwks.json"
MARK = "a-mark-in-the-token"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    """It uses the issuer's own key id."""
    return Issuer(tmp_path_factory.mktemp("stranger"))


def known(**given: Any) -> ServiceSettings:
    return ServiceSettings(app_port=1, dapr_http_port=1, app_api_token="app-token-of-the-tests", rate_limit="", **given)


def service(sidecar: FakeSidecar | None = None, **given: Any) -> FastAPI:
    app = create_app(
        title="test",
        settings=known(**given),
        sidecar=sidecar or FakeSidecar(),
        rules={"GET /me": Access.USER},
        health=Health({}),
        refusals={},
    )

    async def me(caller: Annotated[Caller, Depends(current_caller)]) -> dict[str, Any]:
        return {
            "tenant": caller.tenant,
            "name": caller.tenant_name,
            "subject": caller.subject,
            "roles": sorted(caller.roles),
        }

    app.get("/me")(me)
    return app


@asynccontextmanager
async def calling(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    """It raises what the service raises."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.fixture(scope="module")
def app(issuer: Issuer) -> FastAPI:
    return service(auth_jwks_file=issuer.jwks_file)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(app) as client:
        yield client


async def asked(client: httpx.AsyncClient, *headers: str | bytes) -> httpx.Response:
    """The answer to a request with these `Authorization` headers."""
    raw = [header if isinstance(header, bytes) else header.encode("latin-1") for header in headers]
    return await client.get("/me", headers=[(b"authorization", value) for value in raw])


def assert_refused(answer: httpx.Response, *sent: str) -> None:
    problem = answer.json()
    assert (answer.status_code, problem["errorType"]) == (401, "unauthenticated")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    told = answer.text + str(answer.headers)
    for part in (MARK, *(piece for text in sent for piece in text.split(".") if len(piece) > 5)):
        assert part not in told


# ------------------------------------------------------------------------------------------------ made by the issuer


async def test_a_token_of_the_issuer_makes_a_caller(client: httpx.AsyncClient, issuer: Issuer):
    answer = await client.get("/me", headers=issuer.bearer("staff", "its-own", sub="u-7", tenant="north.1-a_B"))

    assert answer.status_code == 200
    assert answer.json() == {"tenant": "north.1-a_B", "name": "North.1-A_B", "subject": "u-7", "roles": ["staff"]}


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
async def test_the_scheme_may_be_in_any_case_and_followed_by_spaces(
    client: httpx.AsyncClient, issuer: Issuer, scheme: str
):
    assert (await asked(client, f"{scheme} {issuer.token()}")).status_code == 200


@pytest.mark.parametrize(
    ("claims", "detail"),
    [
        ({"exp": int(time.time()) - 60}, "The token has expired."),
        ({"exp": 0}, "The token has expired."),
        ({"exp": -1}, "The token has expired."),
        ({"exp": "soon"}, "The token is not valid."),
        ({"exp": [4102444800]}, "The token is not valid."),
        ({"exp": float("inf")}, "The token is not valid."),
        ({"exp": float("nan")}, "The token is not valid."),
        ({"nbf": int(time.time()) + 86_400}, "The token is not valid yet."),
        ({"nbf": float("inf")}, "The token is not valid."),
        ({"iat": int(time.time()) + 86_400}, "The token is not valid yet."),
        ({"iat": "yesterday"}, "The token is not valid."),
        ({"aud": "another"}, "The token is for another audience."),
        ({"aud": AUDIENCE.upper()}, "The token is for another audience."),
        ({"aud": ["another", AUDIENCE + "2"]}, "The token is for another audience."),
        ({"aud": [AUDIENCE, 7]}, "The token is for another audience."),
        ({"aud": {AUDIENCE: 1}}, "The token is for another audience."),
        ({"iss": "http://elsewhere"}, "The token is from another issuer."),
        ({"iss": ISSUER + "/"}, "The token is from another issuer."),
        ({"iss": [ISSUER]}, None),
        ({"jti": 7}, "The token is not valid."),
    ],
)
async def test_a_token_that_is_not_for_us_or_not_for_now_is_refused(
    client: httpx.AsyncClient, issuer: Issuer, claims: dict[str, Any], detail: str | None
):
    # Not all of these can be made with `jwt.encode`, which looks at them too.
    header = {"alg": "RS256", "kid": issuer.kid}
    token = signed(issuer, header, claims_of(issuer) | claims)

    answer = await asked(client, f"Bearer {token}")

    assert_refused(answer, token)
    assert detail in {None, answer.json()["detail"]}
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("claim", ["exp", "iss", "aud", "sub"])
async def test_a_token_that_lacks_a_claim_is_refused(client: httpx.AsyncClient, issuer: Issuer, claim: str):
    without: dict[str, Any] = {"mark": MARK, claim: None}
    token = issuer.token(**without)

    assert_refused(await asked(client, f"Bearer {token}"), token)


async def test_of_several_audiences_ours_may_be_one(client: httpx.AsyncClient, issuer: Issuer):
    assert (await client.get("/me", headers=issuer.bearer(aud=["another", AUDIENCE]))).status_code == 200


async def test_a_moment_after_its_end_a_token_is_good_because_clocks_differ(client: httpx.AsyncClient, issuer: Issuer):
    assert (await client.get("/me", headers=issuer.bearer(exp=int(time.time()) - 2))).status_code == 200


# ------------------------------------------------------------------------------------------------------------ forged


def claims_of(issuer: Issuer) -> dict[str, Any]:
    return jwt.decode(issuer.token("admin", mark=MARK), options={"verify_signature": False})


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def unsigned(header: Any, claims: Any) -> str:
    return f"{base64url(json.dumps(header).encode())}.{base64url(json.dumps(claims).encode())}"


def signed(issuer: Issuer, header: dict[str, Any], claims: Any) -> str:
    """With the issuer's own key, whatever the header says."""
    text = unsigned(header, claims)
    algorithm = RSAAlgorithm(RSAAlgorithm.SHA512 if header.get("alg") == "RS512" else RSAAlgorithm.SHA256)
    return f"{text}.{base64url(algorithm.sign(text.encode(), issuer.key))}"


def hashed(issuer: Issuer, secret: bytes) -> str:
    """HS256 with something public as its secret, as if we would use whatever the token says."""
    text = unsigned({"alg": "HS256", "kid": issuer.kid}, claims_of(issuer))
    return f"{text}.{base64url(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def pem(issuer: Issuer) -> bytes:
    return issuer.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def with_header(**header: Any) -> Callable[[Issuer], str]:
    return lambda issuer: signed(issuer, {"alg": "RS256", "kid": issuer.kid} | header, claims_of(issuer))


def without_kid(issuer: Issuer) -> str:
    return signed(issuer, {"alg": "RS256"}, claims_of(issuer))


def changed(issuer: Issuer) -> str:
    header, _, signature = issuer.token(mark=MARK).split(".")
    return f"{header}.{base64url(json.dumps(claims_of(issuer) | {'tenant': 'another'}).encode())}.{signature}"


FORGERIES: dict[str, Callable[[Issuer], str]] = {
    "alg none": lambda issuer: unsigned({"alg": "none", "kid": issuer.kid}, claims_of(issuer)) + ".",
    "alg None": lambda issuer: unsigned({"alg": "None", "kid": issuer.kid}, claims_of(issuer)) + ".",
    "alg RS256, unsigned": lambda issuer: unsigned({"alg": "RS256", "kid": issuer.kid}, claims_of(issuer)) + ".",
    "no signature at all": lambda issuer: unsigned({"alg": "RS256", "kid": issuer.kid}, claims_of(issuer)),
    "HS256 with the public key's PEM": lambda issuer: hashed(issuer, pem(issuer)),
    "HS256 with the PEM, stripped": lambda issuer: hashed(issuer, pem(issuer).strip()),
    "HS256 with the JWK": lambda issuer: hashed(issuer, json.dumps(issuer.jwks["keys"][0]).encode()),
    "HS256 with nothing": lambda issuer: hashed(issuer, b""),
    "HS256 with the modulus": lambda issuer: hashed(issuer, issuer.jwks["keys"][0]["n"].encode()),
    "RS512 with a key for RS256": with_header(alg="RS512"),
    "ES256 over an RSA signature": with_header(alg="ES256"),
    "alg missing": with_header(alg=None),
    "alg a list": with_header(alg=["RS256"]),
    "alg in another case": with_header(alg="rs256"),
    "a kid nobody knows": with_header(kid="nobody-knows-it"),
    "no kid": without_kid,
    "kid a path": with_header(kid="../../../../dev/null"),
    "kid an address": with_header(kid="http://elsewhere/jwks.json"),
    "kid SQL": with_header(kid="x' UNION SELECT 'secret' --"),
    "kid empty": with_header(kid=""),
    "kid long": with_header(kid="k" * 2000),
    "kid of two lines": with_header(kid="test-1\nX-Injected: yes"),
    "kid half a character": with_header(kid="\ud800"),
    "kid a number": with_header(kid=1),
    "kid a list": with_header(kid=["test-1"]),
    "kid null": with_header(kid=None),
    "crit": with_header(crit=["exp"], exp=1),
    "crit empty": with_header(crit=[]),
    "crit of another kind": with_header(crit="exp"),
    "b64 false": with_header(b64=False, crit=["b64"]),
    "changed claims": changed,
    "claims a list": lambda issuer: signed(issuer, {"alg": "RS256", "kid": issuer.kid}, [MARK]),
    "claims a text": lambda issuer: signed(issuer, {"alg": "RS256", "kid": issuer.kid}, MARK),
    "too long": lambda issuer: issuer.token(mark=MARK, filling="x" * 8192),
    "header a list": lambda _: unsigned(["RS256"], {}) + ".c2ln",
    "header too deep": lambda _: f"{base64url(b'[' * 5000)}.e30.c2ln",
    "header no text": lambda _: f"{base64url(bytes([0xFF, 0xFE, 0xFD]))}.e30.c2ln",
    "a number too long": lambda _: base64url(b'{"alg":' + b"9" * 5000 + b"}") + ".e30.c2ln",
    "dots": lambda _: "....",
    "two tokens": lambda issuer: f"{issuer.token()} {issuer.token()}",
    "two tokens, comma": lambda issuer: f"{issuer.token()},{issuer.token()}",
    "garbage": lambda _: "gar\x00bage\xff",
    "garbage of the right form": lambda _: "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl",
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_token_is_refused(client: httpx.AsyncClient, issuer: Issuer, forgery: str):
    token = FORGERIES[forgery](issuer)

    assert_refused(await asked(client, f"Bearer {token}"), token)


@pytest.mark.parametrize(
    "pointing", [{"jku": "https://stranger/jwks.json"}, {"x5u": "https://stranger/cert.pem"}, {"x5c": ["MIIB"]}, {}]
)
async def test_a_key_that_the_token_itself_brings_or_points_to_counts_for_nothing(
    issuer: Issuer, stranger: Issuer, pointing: dict[str, Any]
):
    sidecar = FakeSidecar({JWKS: Answer(status=200, data=issuer.jwks)})
    header = {"alg": "RS256", "kid": stranger.kid, "jwk": stranger.jwks["keys"][0]} | pointing
    token = signed(stranger, header, claims_of(stranger))

    async with calling(service(sidecar)) as client:
        assert_refused(await asked(client, f"Bearer {token}"), token)

    assert [method for method, _ in sidecar.invoked] == [JWKS]


async def test_a_key_does_only_what_it_was_made_for_also_where_more_algorithms_are_accepted(issuer: Issuer):
    accepting = service(auth_jwks_file=issuer.jwks_file, auth_algorithms="RS256 RS512 PS256 ES256")
    async with calling(accepting) as client:
        for algorithm in ("RS512", "PS256"):
            token = with_header(alg=algorithm)(issuer)
            assert_refused(await asked(client, f"Bearer {token}"), token)
        assert (await client.get("/me", headers=issuer.bearer())).status_code == 200


@pytest.mark.parametrize("algorithms", ["HS256", "RS256 HS256", "none", "", "RS256 none"])
def test_no_shared_secret_can_be_configured(algorithms: str):
    with pytest.raises(ValueError, match="auth_algorithms"):
        known(auth_algorithms=algorithms)


# -------------------------------------------------------------------------------------------------------- the header


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer    ", "Basic dXNlcjpwYXNzd29yZA==", "Token abcdefgh", "abcdefgh", " "]
)
async def test_a_header_without_a_bearer_token_is_refused(client: httpx.AsyncClient, header: str):
    assert_refused(await asked(client, header), *header.split()[1:])


async def test_without_a_header_the_challenge_names_no_error(client: httpx.AsyncClient):
    answer = await asked(client)

    assert_refused(answer)
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("swapped", [False, True])
async def test_of_two_authorization_headers_neither_is_believed(
    client: httpx.AsyncClient, issuer: Issuer, stranger: Issuer, *, swapped: bool
):
    good, bad = f"Bearer {issuer.token()}", f"Bearer {stranger.token()}"

    assert_refused(await asked(client, *((bad, good) if swapped else (good, bad))), issuer.token())


@pytest.mark.parametrize("where", ["/me?access_token={}", "/me?token={}", "/me?authorization=Bearer%20{}"])
async def test_a_token_in_the_query_is_none(client: httpx.AsyncClient, issuer: Issuer, where: str):
    token = issuer.token()

    assert_refused(await client.get(where.format(token)), token)


@examples(20)
@given(
    header=st.text(st.characters(max_codepoint=255), max_size=60)
    | st.from_regex(r"Bearer [A-Za-z0-9_=-]{0,40}\.[A-Za-z0-9_=-]{0,40}\.[A-Za-z0-9_=-]{0,20}", fullmatch=True)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["alg", "kid", "crit"]), inner),
    ).map(lambda header: f"Bearer {unsigned(header, {})}.c2ln")
)
async def test_whatever_stands_in_the_header_it_is_a_401(issuer: Issuer, header: str):
    settings = known(auth_jwks_file=issuer.jwks_file)
    tokens = Tokens(keys=keys_of(settings, FakeSidecar()), settings=settings)

    with pytest.raises(Problem) as refusal:
        await tokens.caller(header)

    assert refusal.value.status == 401


# -------------------------------------------------------------------------------------------------------- the claims


@pytest.mark.parametrize(
    "sub", [7, True, [], ["u-1"], {}, {"id": 1}, "", "u" * 256, "u\nlevel=error", "u\r", "u\x00", "\ud800", "u\u202e"]
)
async def test_a_subject_that_cannot_be_kept_is_nobody(client: httpx.AsyncClient, issuer: Issuer, sub: Any):
    token = issuer.token(sub=sub, mark=MARK) if isinstance(sub, str) else with_claim(issuer, "sub", sub)

    assert_refused(await asked(client, f"Bearer {token}"), token)


def with_claim(issuer: Issuer, name: str, value: Any) -> str:
    return signed(issuer, {"alg": "RS256", "kid": issuer.kid}, claims_of(issuer) | {name: value})


@pytest.mark.parametrize(
    "sub", ["u-1", "auth0|5f7c", "Ada Lovelace", "ünï", "00u1a/b", "u" * 255, "\u0645\u06cc\u200c\u0622"]
)
async def test_a_subject_may_be_any_printable_text(client: httpx.AsyncClient, issuer: Issuer, sub: str):
    assert (await client.get("/me", headers=issuer.bearer(sub=sub))).json()["subject"] == sub


NO_TENANTS = [
    None, "", " ", "a b", " a", "a ", "a/b", "/", "..", ".", "../a", "a\\b", "a\n", "\na", "a\nlevel=error", "a\x00",
    "a\u2028", "\u0661\u0662", "\uff11", "\u00e9", "a||b", "a:b", "a*", "a?", "a%2Fb", "a'--", "t" * 65, 7, True, [],
    ["a"], {}, {"a": 1}, "\ud800", "-a", "_a",
]  # fmt: skip


@pytest.mark.parametrize("tenant", NO_TENANTS)
async def test_what_is_no_name_of_a_tenant_is_403_and_not_repeated(
    client: httpx.AsyncClient, issuer: Issuer, tenant: Any
):
    answer = await asked(client, f"Bearer {with_claim(issuer, 'tenant', tenant)}")

    assert (answer.status_code, answer.json()["errorType"]) == (403, "tenant-missing")
    assert answer.json()["detail"] == "The claim tenant is missing, or is no name of a tenant."


@pytest.mark.parametrize("name", [None, 7, ["x"], "", "n" * 256, "a\nb", "\ud800"])
async def test_a_tenant_without_a_fit_name_is_called_by_its_id(client: httpx.AsyncClient, issuer: Issuer, name: Any):
    answer = await asked(client, f"Bearer {with_claim(issuer, 'tenant_name', name)}")

    assert (answer.status_code, answer.json()["name"]) == (200, "default")


@pytest.mark.parametrize(
    ("roles", "known"),
    [
        (["user"], ["user"]),
        (["admin", "offline_access", 7, None, ["staff"], {}], ["admin"]),
        ("staff", ["staff"]),
        ("openid staff user", ["staff", "user"]),
    ],
)
async def test_roles_are_a_list_or_words_and_those_of_others_are_passed_over(
    client: httpx.AsyncClient, issuer: Issuer, roles: Any, known: list[str]
):
    answer = await asked(client, f"Bearer {with_claim(issuer, 'roles', roles)}")

    assert (answer.status_code, answer.json().get("roles")) == (200, known)


NO_ROLES = [
    None, [], "", 7, True, {}, {"admin": True}, {"x": " admin "}, [["admin"]], [{"admin": 1}], "administrator", "ADMIN",
    ["Admin"], ["admin "], "superadmin", "admin,user", [0], [1.5],
]  # fmt: skip


@pytest.mark.parametrize("roles", NO_ROLES)
async def test_what_is_no_role_gives_none(client: httpx.AsyncClient, issuer: Issuer, roles: Any):
    answer = await asked(client, f"Bearer {with_claim(issuer, 'roles', roles)}")

    assert (answer.status_code, answer.json()["errorType"]) == (403, "role-missing")


@pytest.mark.parametrize(
    ("path", "claims"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["staff"]}}),
        ("a.b.c", {"a": {"b": {"c": "staff"}}}),
        ("https://example.org/roles", {"https://example.org/roles": ["staff"]}),
    ],
)
async def test_claims_may_lie_deeper_or_have_dots_in_their_names(issuer: Issuer, path: str, claims: dict[str, Any]):
    async with calling(service(auth_jwks_file=issuer.jwks_file, auth_roles_claim=path)) as client:
        answer = await client.get("/me", headers=issuer.bearer("admin", **claims))

    assert answer.json()["roles"] == ["staff"]


@pytest.mark.parametrize("claims", [{}, {"realm_access": 7}, {"realm_access": ["roles"]}, {"realm_access": "roles"}])
async def test_a_path_that_leads_nowhere_gives_no_role(issuer: Issuer, claims: dict[str, Any]):
    async with calling(service(auth_jwks_file=issuer.jwks_file, auth_roles_claim="realm_access.roles")) as client:
        assert (await client.get("/me", headers=issuer.bearer("admin", **claims))).status_code == 403


def test_a_caller_may_what_lesser_roles_may():
    def caller(*roles: Role) -> Caller:
        return Caller(tenant="t", tenant_name="T", subject="u-1", roles=frozenset(roles))

    assert [caller(role).may(Role.STAFF) for role in Role] == [False, True, True]
    assert [caller(role).owner for role in Role] == ["u-1", None, None]
    assert (caller().may(Role.USER), caller().owner) == (False, "u-1")


# ---------------------------------------------------------------------------------------------------------- the keys


class Published:
    """An issuer's key set, as somebody fetches it; it counts how often."""

    def __init__(self, *kids: str) -> None:
        self.document: Any = {"keys": [jwk(kid) for kid in kids]}
        self.failure: Exception | None = None
        self.fetches = 0
        self.open = asyncio.Event()
        self.open.set()

    async def load(self) -> Any:
        self.fetches += 1
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        return self.document


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


EC_KEY = ec.generate_private_key(ec.SECP256R1())


def jwk(kid: str, **members: Any) -> dict[str, Any]:
    return ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True) | {"kid": kid} | members


def keys(published: Published, clock: Clock | None = None) -> Keys:
    return Keys(published.load, algorithms=frozenset({"RS256", "ES256"}), clock=clock or Clock())


async def test_fifty_who_ask_at_once_for_an_unknown_key_make_one_fetch():
    published = Published("a")
    wanted = keys(published)
    published.open.clear()
    asking = [asyncio.create_task(wanted.get(kid)) for kid in ["a", "made-up"] * 25]
    await asyncio.sleep(0)

    published.open.set()
    found = await asyncio.gather(*asking)

    assert published.fetches == 1
    assert [key is not None for key in found] == [True, False] * 25


async def test_one_who_hangs_up_meanwhile_does_not_stop_the_fetch():
    published = Published("a")
    wanted = keys(published)
    published.open.clear()
    first, second = asyncio.create_task(wanted.get("a")), asyncio.create_task(wanted.get("a"))
    await asyncio.sleep(0)

    first.cancel()
    published.open.set()

    assert await second is not None
    assert published.fetches == 1


async def test_made_up_key_ids_cost_the_issuer_one_fetch_in_a_while():
    published, clock = Published("a"), Clock()
    wanted = keys(published, clock)
    await wanted.get("a")

    for made_up in range(100):
        clock.now += 0.09
        assert await wanted.get(f"made-up-{made_up}") is None
    assert published.fetches == 1

    clock.now += 10
    assert await wanted.get("made-up") is None
    assert published.fetches == 2


async def test_a_rotated_key_is_found_and_the_withdrawn_one_is_forgotten():
    published, clock = Published("old"), Clock()
    wanted = keys(published, clock)
    assert await wanted.get("old") is not None

    published.document = {"keys": [jwk("new")]}
    clock.now += 11

    assert await wanted.get("new") is not None
    assert await wanted.get("old") is None


async def test_a_key_set_grown_old_is_fetched_anew_and_nobody_waits_for_it():
    published, clock = Published("a"), Clock()
    wanted = keys(published, clock)
    await wanted.get("a")
    clock.now += 601
    published.open.clear()
    published.document = {"keys": [jwk("b")]}

    assert await wanted.get("a") is not None
    published.open.set()
    for _ in range(3):
        await asyncio.sleep(0)

    assert published.fetches == 2
    assert await wanted.get("a") is None


@pytest.mark.parametrize("document", ["no JWK set", {"keys": []}, {"keys": [{"kty": "oct"}]}])
@pytest.mark.parametrize("failure", [Unavailable("issuer"), OSError(), ValueError(), None])
async def test_an_issuer_that_fails_takes_nobodys_keys_away(failure: Exception | None, document: Any):
    published, clock = Published("a"), Clock()
    wanted = keys(published, clock)
    await wanted.get("a")

    published.failure, published.document = failure, document
    for _ in range(5):
        clock.now += 700
        assert await wanted.get("a") is not None
        assert await wanted.get("made-up") is None

    assert 5 <= published.fetches <= 11


async def test_without_any_key_everybody_is_told_to_come_again_until_there_is_one():
    published, clock = Published("a"), Clock()
    wanted = keys(published, clock)
    published.failure = Unavailable("issuer")

    for _ in range(20):
        with pytest.raises(Unavailable):
            await wanted.get("a")
    assert published.fetches == 1

    published.failure = None
    clock.now += 1.1
    assert await wanted.get("a") is not None


JUNK = [
    None, 7, "text", [], {}, {"kty": None}, {"kty": "RSA"}, {"kty": ["EC"]}, {"kty": "XX", "kid": "x"},
    jwk("enc", use="enc"), jwk("use-list", use=["sig"]), jwk("use-object", use={}),
    jwk("algorithm-list", alg=["ES256"]), jwk("other", alg="ES384"),
    jwk("point", x="AA"), jwk("text", y="!"), jwk("number", x=5), jwk("curve", crv="P-999"), jwk("hash", alg="HS256"),
    jwk("x") | {"kid": ["list"]}, jwk("x") | {"kid": {}}, jwk("x") | {"kid": 5}, jwk("x") | {"kid": None},
    {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"}, {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "ES256"},
    ECAlgorithm.to_jwk(EC_KEY, as_dict=True) | {"kid": "private"},
]  # fmt: skip


@pytest.mark.parametrize("junk", [*([one] for one in JUNK), JUNK], ids=count())
async def test_what_is_no_public_signing_key_is_passed_over(junk: list[Any]):
    published = Published()
    published.document = {"keys": [*junk, jwk("good"), *junk]}
    wanted = keys(published)

    assert await wanted.get("good") is not None
    for kid in (one["kid"] for one in junk if isinstance(one, dict) and isinstance(one.get("kid"), str)):
        assert await wanted.get(kid) is None


@pytest.mark.parametrize("members", [{"use": None}, {"alg": None}, {"use": "sig", "alg": "ES256"}, {"x5t": "any"}])
async def test_a_key_need_not_say_what_it_is_for(members: dict[str, Any]):
    published = Published()
    published.document = {"keys": [jwk("a", **members)]}

    assert await keys(published).get("a") is not None


async def test_a_key_too_small_to_be_safe_signs_nothing(issuer: Issuer, tmp_path: Path):
    weak = Issuer(tmp_path)
    weak.key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  that is the point
    weak.jwks_file.write_text(json.dumps(weak.jwks))
    token = signed(weak, {"alg": "RS256", "kid": weak.kid}, claims_of(issuer))

    async with calling(service(auth_jwks_file=weak.jwks_file)) as client:
        assert_refused(await asked(client, f"Bearer {token}"), token)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=500, data=None),
        Answer(status=404, data={"errorCode": "ERR_DIRECT_INVOKE"}),
        Answer(status=200, data=None),
        Answer(status=200, data=[]),
        Answer(status=200, data={"keys": 7}),
        Answer(status=200, data={"keys": []}),
        Answer(status=302, data=None),
    ],
)
async def test_while_the_issuer_gives_no_keys_the_service_says_when_to_come_again(issuer: Issuer, answer: Answer):
    async with calling(service(FakeSidecar({JWKS: answer}))) as client:
        refusal = await client.get("/me", headers=issuer.bearer())

    assert (refusal.status_code, refusal.json()["errorType"]) == (503, "issuer-unavailable")
    assert int(refusal.headers["retry-after"]) > 0


async def test_without_a_sidecar_there_are_no_keys_and_no_callers(issuer: Issuer):
    sidecar = FakeSidecar()
    sidecar.alive = False

    async with calling(service(sidecar)) as client:
        assert (await client.get("/me", headers=issuer.bearer())).status_code == 503


async def test_keys_come_through_the_sidecar_once_for_many_requests(issuer: Issuer):
    sidecar = FakeSidecar({JWKS: Answer(status=200, data=issuer.jwks)})

    async with calling(service(sidecar)) as client:
        answers = await asyncio.gather(*(client.get("/me", headers=issuer.bearer()) for _ in range(20)))

    assert {answer.status_code for answer in answers} == {200}
    assert len(sidecar.invoked) == 1


@pytest.mark.parametrize("content", [None, "", "no JSON", '{"keys": 7}'])
async def test_a_file_that_holds_no_keys_is_like_an_issuer_that_is_down(
    issuer: Issuer, tmp_path: Path, content: str | None
):
    file = tmp_path / "jwks.json"
    if content is not None:
        file.write_text(content)

    async with calling(service(auth_jwks_file=file)) as client:
        assert (await client.get("/me", headers=issuer.bearer())).status_code == 503


async def test_a_token_is_checked_once_in_a_while_and_never_believed_past_its_end(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
):
    published, now = Published(), [time.time()]
    published.document = issuer.jwks
    checker = Tokens(keys=keys(published), settings=known())
    checks: list[str] = []
    verify = jwt.decode

    def counting(token: str, *given: Any, **more: Any) -> Any:
        checks.append(token)
        return verify(token, *given, **more)

    monkeypatch.setattr("chassis.edge.tokens.jwt.decode", counting)
    monkeypatch.setattr("chassis.edge.tokens.time.time", lambda: now[0])
    bearer = issuer.bearer("staff", exp=int(now[0]) + 20)["Authorization"]

    first = await checker.caller(bearer)
    assert [await checker.caller(bearer) for _ in range(5)] == [first] * 5
    assert len(checks) == 1
    with pytest.raises(Problem):
        await checker.caller(bearer[:-2])  # another text is another token

    now[0] += 21  # past its end: looked at again, and that is for the library to say
    await checker.caller(bearer)
    assert len(checks) == 3
