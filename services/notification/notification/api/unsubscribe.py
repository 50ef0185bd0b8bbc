"""The link in an e-mail that ends more of its kind. Whoever has it may use it: no sign-in (RFC 8058, 3.2)."""

from html import escape
from typing import Annotated

import structlog
from fastapi import Query, Request
from fastapi.responses import HTMLResponse

from chassis.edge.routes import Routes, refused
from chassis.problems import Problem
from chassis.telemetry import told_of
from notification.domain import ChannelName
from notification.recipients.unsubscribe_link import Forged, Subscription, Unsubscribing
from notification.services import services

log = structlog.get_logger()

WORDS = {
    ChannelName.EMAIL: "e-mail",
    ChannelName.SMS: "text message",
    ChannelName.PUSH: "push message",
    ChannelName.LIVE: "live message",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Robots-Tag": "noindex",
}
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Unsubscribe</title></head>
<body><main><h1>Unsubscribe</h1>{content}</main></body>
</html>
"""
# Without an action a form is posted to the address of its own page, token and all.
_ASK = '<p>No more “{category}” by {channel}?</p><form method="post"><button>Unsubscribe</button></form>'
_DONE = "<p>You will get no more “{category}” by {channel}.</p>"

Token = Annotated[str, Query(max_length=2048, description="as it stands in the message")]


router = Routes(
    prefix="/api/v1/unsubscribe",
    tags=["recipients"],
    default_response_class=HTMLResponse,
    responses=refused({404: "link-not-found", 422: "invalid-request", 503: "database-unavailable"}),
)


@router.get("")
async def ask_to_unsubscribe(request: Request, token: Token) -> HTMLResponse:
    """A page with a button. Mail scanners open every link: looking changes nothing."""
    unsubscribing = services(request).unsubscribing
    return _page(_ASK, _read(unsubscribing, token))


@router.post("")
async def unsubscribe_recipient(request: Request, token: Token) -> HTMLResponse:
    """Done at once, also by a mail program's own button; again is the same. The body (`List-Unsubscribe=One-Click`,
    in whichever encoding, or none) says nothing that the link doesn't."""
    made = services(request)
    subscription = _read(made.unsubscribing, token)
    with told_of(tenant=subscription.tenant):
        await made.units.write(
            subscription.tenant,
            lambda unit: unit.preferences.change(
                subscription.recipient_id, lambda held: held.unsubscribed(subscription.category, subscription.channel)
            ),
        )
        log.info("recipient.unsubscribed", category=subscription.category, channel=subscription.channel)
    return _page(_DONE, subscription)


def _read(unsubscribing: Unsubscribing, token: str) -> Subscription:
    try:
        return unsubscribing.read(token)
    except Forged:
        raise Problem(status=404, error_type="link-not-found", title="This link is not one of ours") from None


def _page(content: str, subscription: Subscription) -> HTMLResponse:
    filled = content.format(category=escape(subscription.category), channel=WORDS[subscription.channel])
    return HTMLResponse(_PAGE.format(content=filled), headers=_HEADERS)
