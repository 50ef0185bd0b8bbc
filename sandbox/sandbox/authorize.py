"""The issuer as a browser meets it: the authorization endpoint (OpenID Connect Core), revocation (RFC 7009), and the
end of a session (RP-Initiated Logout). Here nobody has a session: each sign-in asks anew who one is."""

from collections.abc import Mapping
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from sandbox import sign_in
from sandbox.issuer import Holder
from sandbox.sign_in import NAMES, SignIns
from sandbox.sign_in_page import said, sign_in_page
from sandbox.vendor import answer, read_form

AUTHORIZE = "/oauth/authorize"
REVOKE = "/oauth/revoke"
END_SESSION = "/oauth/logout"


class AuthorizationEndpoint:
    def __init__(self, *, name: str, sign_ins: SignIns, pages_url: str) -> None:
        self._name = name
        self._sign_ins = sign_ins
        self._pages_url = pages_url

    def routes(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route(AUTHORIZE, self.ask, methods=["GET"], response_model=None)
        router.add_api_route(AUTHORIZE, self.decide, methods=["POST"], response_model=None)
        router.add_api_route(REVOKE, self.revoke, methods=["POST"], response_model=None)
        router.add_api_route(END_SESSION, self.end_session, methods=["GET"], response_model=None)
        return router

    async def ask(self, request: Request) -> Response:
        """Who is it? Or, for a client that asks wrongly, back to it with an error."""
        query = dict(request.query_params)
        wanted = sign_in.read_request(query, pages_url=self._pages_url)
        if isinstance(wanted, str):
            return said(400, "This sign-in can't go on", wanted)
        return self._back(wanted, error=wanted.error) if wanted.error else sign_in_page(query)

    async def decide(self, request: Request) -> Response:
        """What the person picked: back to the client with a code, or with `access_denied`."""
        form = await read_form(request) or {}
        wanted = sign_in.read_request(form, pages_url=self._pages_url)
        if isinstance(wanted, str):
            return said(400, "This sign-in can't go on", wanted)
        if wanted.error or form.get("decision") == "deny":
            return self._back(wanted, error=wanted.error or "access_denied")
        holder = _holder(form)
        if isinstance(holder, str):
            return sign_in_page(form, wrong=holder)
        return self._back(wanted, code=self._sign_ins.code(wanted, holder))

    async def revoke(self, request: Request) -> Response:
        self._sign_ins.revoke((await read_form(request) or {}).get("token", ""))
        return answer(200, {})

    async def end_session(self, request: Request) -> Response:
        back = request.query_params.get("post_logout_redirect_uri", "")
        if back.startswith(f"{self._pages_url}/"):
            return RedirectResponse(back, 303)
        return said(200, "You are signed out", "You can close this page.")

    def _back(self, wanted: sign_in.Request, **told: str) -> Response:
        told |= {"iss": self._name} | ({"state": wanted.state} if wanted.state else {})
        joint = "&" if "?" in wanted.redirect_uri else "?"
        return RedirectResponse(f"{wanted.redirect_uri}{joint}{urlencode(told)}", 303)


def _holder(form: Mapping[str, str]) -> Holder | str:
    role = form.get("role", "user")
    name = form.get("sub", "").strip() or NAMES.get(role, "")
    return Holder.checked(role=role, sub=name, tenant=form.get("tenant", "").strip() or None)
