"""Signing in by the browser. The page holds the access token in memory; the refresh token is a cookie of ours that no
script can read (decision 11)."""

from datetime import datetime
from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from backoffice.api.pages import content_security_policy
from backoffice.services import Services, services
from backoffice.settings import Settings
from backoffice.sign_in import attempt as attempts
from backoffice.sign_in.attempt import Attempt, WrongState
from backoffice.sign_in.issuer import IssuerUnusable, SessionEnded
from backoffice.sign_in.refusal_page import refusal_page
from backoffice.sign_in.sign_in import Session
from chassis.edge.auth import Role
from chassis.edge.routes import Routes
from chassis.problems import Problem, Unavailable
from chassis.wire import Wire

# A browser's affair, and no part of the API.
router = Routes(prefix="/auth", include_in_schema=False)

_PATH = "/auth"
_KEPT_SECONDS = 30 * 86_400  # at most: the issuer may end it sooner


def cookie_name(settings: Settings) -> str:
    """With the port, if there is one: cookies know none, and another Brewline may be on another port of this host."""
    port = urlsplit(settings.public_url).port
    return f"brewline-session-{port}" if port else "brewline-session"


class SessionView(Wire):
    """Who is signed in, and the token that says so to every service."""

    access_token: str
    expires_at: datetime
    subject: str
    roles: list[Role]
    tenant: str
    tenant_name: str


@router.get("/sign-in")
async def sign_in(
    request: Request, to: Annotated[str, Query(max_length=1024)] = "/", another: bool = False
) -> Response:
    """To the issuer; from there the person comes back to `to`, a page of ours. `another`: who is signed in there is
    asked all the same."""
    made = services(request)
    if not attempts.is_own_path(to):
        return _refused(request, 400, "foreign")
    attempt = Attempt.new(to)
    try:
        answer = RedirectResponse(await made.sign_in.address(attempt, another=another), 303)
    except (Unavailable, IssuerUnusable) as failed:
        return _failed(request, failed, to)
    answer.set_cookie(
        attempts.cookie_name(attempt.state),
        attempts.sealed(attempt, made.sealer),
        max_age=attempts.SECONDS,
        path=f"{_PATH}/callback",
        secure=_is_secure(made.settings),
        httponly=True,
        samesite="lax",  # the issuer's redirect comes from another site, and has to bring it along
    )
    return answer


@router.get("/callback")
async def callback(
    request: Request, state: str = "", code: str = "", error: str = "", iss: str | None = None
) -> Response:
    """Back from the issuer."""
    made = services(request)
    try:
        attempt = attempts.opened(state, request.cookies, made.sealer)
    except WrongState:
        return _refused(request, 400, "wrong-state")
    answer = await _completed(request, attempt, code=code, error=error, iss=iss)
    answer.delete_cookie(attempts.cookie_name(state), path=f"{_PATH}/callback")
    return answer


async def _completed(request: Request, attempt: Attempt, *, code: str, error: str, iss: str | None) -> Response:
    if error or not code:
        return _refused(request, 403, "declined", to=attempt.to)
    made = services(request)
    try:
        session = await made.sign_in.complete(attempt, code=code, iss=iss)
    except SessionEnded:
        return _refused(request, 400, "wrong-state", to=attempt.to)
    except (Unavailable, IssuerUnusable) as failed:
        return _failed(request, failed, attempt.to)
    answer = RedirectResponse(attempt.to, 303)
    _keep(answer, session, made.settings)
    return answer


@router.post("/token")
async def token(request: Request) -> Response:
    """A new access token for whom the cookie speaks of; 204 where nobody is signed in."""
    made = services(request)
    _require_own_page(request, made)
    if (cookie := request.cookies.get(cookie_name(made.settings))) is None:
        return Response(status_code=204)
    try:
        session = await made.sign_in.renew(cookie)
    except SessionEnded:
        answer = Response(status_code=204)
        _forget(answer, made.settings)
        return answer
    except IssuerUnusable:
        raise Unavailable("issuer") from None
    view = SessionView(
        access_token=session.access_token,
        expires_at=session.expires_at,
        subject=session.caller.subject,
        roles=sorted(session.caller.roles),
        tenant=session.caller.tenant,
        tenant_name=session.caller.tenant_name,
    )
    answer = JSONResponse(view.model_dump(mode="json", by_alias=True))
    _keep(answer, session, made.settings)
    return answer


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """Ends it here and, as far as the issuer can, there; `next` is where the browser goes then."""
    made = services(request)
    _require_own_page(request, made)
    cookie = request.cookies.get(cookie_name(made.settings))
    following = "/" if cookie is None else await made.sign_in.end(cookie)
    answer = JSONResponse({"next": following})
    _forget(answer, made.settings)
    return answer


def _require_own_page(request: Request, made: Services) -> None:
    """SameSite keeps the cookie from other sites, and this from other origins of our own site. Browsers send `Origin`
    with every POST."""
    own = urlsplit(made.settings.public_url)
    if request.headers.get("origin") != f"{own.scheme}://{own.netloc}":
        raise Problem(status=403, error_type="foreign-origin", title="Only our own pages may ask for this")


def _keep(answer: Response, session: Session, settings: Settings) -> None:
    answer.set_cookie(
        cookie_name(settings),
        session.cookie,
        max_age=_KEPT_SECONDS,
        path=_PATH,
        secure=_is_secure(settings),
        httponly=True,
        samesite="strict",
    )


def _forget(answer: Response, settings: Settings) -> None:
    answer.delete_cookie(
        cookie_name(settings), path=_PATH, secure=_is_secure(settings), httponly=True, samesite="strict"
    )


def _is_secure(settings: Settings) -> bool:
    return settings.public_url.startswith("https:")


def _failed(request: Request, failed: Unavailable | IssuerUnusable, to: str) -> Response:
    return _refused(request, *((503, "unavailable") if isinstance(failed, Unavailable) else (502, "unusable")), to=to)


def _refused(request: Request, status: int, reason: str, *, to: str = "/") -> Response:
    policy = content_security_policy(services(request).settings)
    page = refusal_page(request, reason, to=quote(to, safe="/"))
    return HTMLResponse(page, status, headers={"Content-Security-Policy": policy})
