"""The issuer as programs see it: OAuth 2.0's token endpoint (RFC 6749), its keys, and where to find both."""

import base64
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote_plus

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from sandbox.authorize import AUTHORIZE, END_SESSION, REVOKE
from sandbox.inn8 import SCOPES, Inn8
from sandbox.issuer import Holder, Issuer
from sandbox.sign_in import Refused, SignIn, SignIns
from sandbox.vendor import answer

_JWKS = "/.well-known/jwks.json"
_TOKEN = "/oauth/token"  # noqa: S105  # a path

_GRANT = "client_credentials"
_CODE, _REFRESH = "authorization_code", "refresh_token"
_METHODS = ["client_secret_basic", "client_secret_post"]
_LARGEST_FORM = 16 * 1024  # bytes
_MOST_FIELDS = 32

_CLIENT_ID = re.compile("[ -~]{1,255}")
# RFC 6749, appendix A.4.
_SCOPE = re.compile(r"[!#-\[\]-~]+( [!#-\[\]-~]+)*")


class _Refused(NamedTuple):
    """An error as RFC 6749, section 5.2, has it; the description never repeats what was sent."""

    error: str
    description: str

    def answer(self) -> Response:
        headers = {"cache-control": "no-store"}
        if self.error == "invalid_client":
            headers["www-authenticate"] = 'Basic realm="sandbox"'
        body = {"error": self.error, "error_description": self.description}
        return answer(401 if self.error == "invalid_client" else 400, body, headers)


class _Client(NamedTuple):
    id: str
    secret: str


class TokenEndpoint:
    """Tokens for programs: for INN8 where one of its scopes is asked for, else for our own services. There any client
    with any secret is accepted: this issuer is for development."""

    def __init__(self, *, issuer: Issuer, audience: str, lifetime: timedelta, inn8: Inn8, sign_ins: SignIns) -> None:
        self._issuer = issuer
        self._sign_ins = sign_ins
        self._inn8 = inn8
        self._audience = audience
        self._lifetime = lifetime

    def routes(self) -> APIRouter:
        """Every call the issuer offers."""
        router = APIRouter()
        router.add_api_route(_TOKEN, self.grant, methods=["POST"])
        router.add_api_route(_JWKS, self.jwks, methods=["GET"])
        router.add_api_route("/.well-known/openid-configuration", self.configuration, methods=["GET"])
        return router

    async def grant(self, request: Request) -> Response:
        """A token for a client by its credentials, which are only asked to be there: any are accepted.

        For development the form may also say whom the token is to speak of: `role` (user, staff, admin; default
        user), `sub` (default the client's id), `tenant` (default `default`), `tenant_name`.
        """
        form = await _read_form(request)
        if isinstance(form, _Refused):
            return form.answer()
        if form.get("grant_type") in {_CODE, _REFRESH}:
            return await self._grant_to_person(request.headers.get("authorization"), form)
        client = _client(request.headers.get("authorization"), form)
        if isinstance(client, _Refused):
            return client.answer()
        if wrong := _wrong_grant(form):
            return wrong.answer()
        scopes = frozenset(form.get("scope", "").split())
        if scopes & SCOPES:
            return self._inn8.grant(client.secret, scopes) or _NOT_INN8S.answer()
        holder = _holder(client, form)
        if isinstance(holder, _Refused):
            return holder.answer()
        # The first one makes a key, which takes a while.
        token = await run_in_threadpool(self._token, holder)
        scope = {"scope": form["scope"]} if "scope" in form else {}
        granted = {"access_token": token, "token_type": "Bearer", "expires_in": int(self._lifetime.total_seconds())}
        return answer(200, granted | scope, {"cache-control": "no-store"})

    async def _grant_to_person(self, authorization: str | None, form: Mapping[str, str]) -> Response:
        """For a code or a refresh token. The client may be a public one: it names itself, and PKCE does the rest."""
        client_id = _basic(authorization)[0] if authorization is not None else form.get("client_id", "")
        is_code = form["grant_type"] == _CODE
        try:
            sign_in = (self._sign_ins.redeem if is_code else self._sign_ins.renew)(form, client_id=client_id)
        except Refused as refused:
            return _Refused(refused.error, refused.description).answer()
        token = await run_in_threadpool(self._token, sign_in.holder)
        granted = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": int(self._lifetime.total_seconds()),
            "refresh_token": sign_in.refresh,
            "scope": sign_in.request.scope,
            "id_token": self._id_token(sign_in),
        }
        return answer(200, granted, {"cache-control": "no-store"})

    def _id_token(self, sign_in: SignIn) -> str:
        return self._issuer.id_token(
            subject=sign_in.holder.sub,
            client_id=sign_in.request.client_id,
            nonce=sign_in.request.nonce,
            lifetime=self._lifetime,
        )

    # No coroutine: the first one makes a key, which takes a while.
    def jwks(self) -> Response:
        """The keys that verify."""
        return answer(200, self._issuer.jwks())

    async def configuration(self, request: Request) -> Response:
        """Where everything is (OpenID Connect): the issuer's name is fixed, the rest is where it was asked."""
        here = str(request.base_url).rstrip("/")
        return answer(
            200,
            {
                "issuer": self._issuer.name,
                "jwks_uri": here + _JWKS,
                "authorization_endpoint": here + AUTHORIZE,
                "token_endpoint": here + _TOKEN,
                "revocation_endpoint": here + REVOKE,
                "end_session_endpoint": here + END_SESSION,
                "grant_types_supported": [_GRANT, _CODE, _REFRESH],
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "scopes_supported": ["openid", "offline_access"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "token_endpoint_auth_methods_supported": [*_METHODS, "none"],
                "claims_supported": ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "tenant", "tenant_name", "roles"],
            },
        )

    def _token(self, holder: Holder) -> str:
        return self._issuer.token(
            subject=holder.sub,
            roles=[holder.role],
            tenant=holder.tenant,
            tenant_name=holder.tenant_name,
            audience=self._audience,
            lifetime=self._lifetime,
        )


async def _read_form(request: Request) -> dict[str, str] | _Refused:
    """The form's fields, those without a value left out, as section 3.2 has it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = bytearray()
    # Read to its end, so that the answer arrives, but kept only so far.
    async for part in request.stream():
        if len(body) <= _LARGEST_FORM:
            body += part
    if kind != "application/x-www-form-urlencoded":
        return _Refused("invalid_request", "The body has to be application/x-www-form-urlencoded.")
    if len(body) > _LARGEST_FORM:
        return _Refused("invalid_request", f"A form has at most {_LARGEST_FORM} bytes.")
    try:
        text = body.decode("ascii")
        fields = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        return _Refused("invalid_request", "The body is not a form, or one with too many fields.")
    if len(dict(fields)) != len(fields):
        return _Refused("invalid_request", "No field may come twice.")
    return {name: value for name, value in fields if value}


_NOT_INN8S = _Refused("invalid_client", "INN8 knows no client with this secret.")


def _holder(client: _Client, form: Mapping[str, str]) -> Holder | _Refused:
    holder = Holder.checked(
        role=form.get("role"),
        sub=form.get("sub", client.id),
        tenant=form.get("tenant"),
        tenant_name=form.get("tenant_name"),
    )
    return _Refused("invalid_request", holder) if isinstance(holder, str) else holder


def _client(authorization: str | None, form: Mapping[str, str]) -> _Client | _Refused:
    """By HTTP Basic or the form (section 2.3.1)."""
    client, secret = form.get("client_id", ""), form.get("client_secret", "")
    if authorization is not None:
        if secret:
            return _Refused("invalid_request", "A client shows its credentials in one place only.")
        named, secret = _basic(authorization)
        if client and client != named:
            return _Refused("invalid_request", "The form names another client than the header.")
        client = named
    if not (secret and _CLIENT_ID.fullmatch(client)):
        return _Refused("invalid_client", "A client shows an id of printable ASCII and a secret: any are accepted.")
    return _Client(id=client, secret=secret)


def _basic(authorization: str) -> tuple[str, str]:
    """The id and the secret, empty when the header holds none. Both are form-encoded before they are joined."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        client, _, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return (unquote_plus(client), unquote_plus(secret)) if scheme.lower() == "basic" else ("", "")


def _wrong_grant(form: Mapping[str, str]) -> _Refused | None:
    if "grant_type" not in form:
        return _Refused("invalid_request", "grant_type is missing.")
    if form["grant_type"] != _GRANT:
        return _Refused("unsupported_grant_type", f"Grants here are {_CODE}, {_REFRESH} and {_GRANT}.")
    if "scope" in form and not _SCOPE.fullmatch(form["scope"]):
        return _Refused("invalid_request", "scope: names with single spaces between them.")
    return None
