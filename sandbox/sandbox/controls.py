"""The sandbox's own API: what was delivered and charged, and what shall go wrong. Not a part of the outside world."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from sandbox import pages
from sandbox.faults import Fault, Faults, Mixture
from sandbox.inn8 import Inn8
from sandbox.issuer import Issuer
from sandbox.ledger import Books
from sandbox.lists import Listed
from sandbox.mail import Inbox
from sandbox.payments import Provider
from sandbox.postmaster import Postmaster
from sandbox.push import PushProvider
from sandbox.receipts import Receipts, Target, Url
from sandbox.sms import Texts
from sandbox.sms_africas_talking import AfricasTalking, InboundBody
from sandbox.webhooks import Manner, Webhooks

# A page for people; a program that names no limit gets the longest there is.
_PAGE = 100


class Look(BaseModel):
    """What of a list is asked for: the entries of one address, number or order, how many, and from where on."""

    to: str | None = None
    order_id: str | None = Field(default=None, alias="orderId")
    limit: int | None = Field(default=None, ge=1)
    cursor: int | None = Field(default=None, ge=0)


Looked = Annotated[Look, Query()]


class Controls:
    """Reads and resets every party. A new one joins the constructor, a list and `forget`."""

    def __init__(
        self,
        *,
        faults: Faults,
        books: Mapping[str, Books],
        ledger: Listed,
        providers: Sequence[Provider],
        webhooks: Webhooks,
        inbox: Inbox,
        push: PushProvider,
        texts: Texts,
        africas_talking: AfricasTalking,
        receipts: Receipts,
        postmaster: Postmaster,
        issuer: Issuer,
        inn8: Inn8,
        smtp_port: int,
    ) -> None:
        self._faults = faults
        self._books = books
        self._ledger = ledger
        self._providers = providers
        self._webhooks = webhooks
        self._inbox = inbox
        self._push = push
        self._texts = texts
        self._africas_talking = africas_talking
        self._receipts = receipts
        self._postmaster = postmaster
        self._issuer = issuer
        self._inn8 = inn8
        self._smtp_port = smtp_port

    def routes(self) -> APIRouter:
        """The controls, the front page and the probes."""
        router = APIRouter()
        for path in ("/health", "/health/live", "/health/ready"):
            router.add_api_route(path, self.health, methods=["GET"])
        router.add_api_route("/", self.front, methods=["GET"])
        router.add_api_route("/sandbox/ledger", self.ledger, methods=["GET"])
        router.add_api_route("/sandbox/inbox", self.inbox, methods=["GET"])
        router.add_api_route("/sandbox/push", self.push, methods=["GET"])
        router.add_api_route("/sandbox/sms", self.sms, methods=["GET"])
        router.add_api_route("/sandbox/sms/inbound", self.text_in, methods=["POST"])
        router.add_api_route("/sandbox/faults", self.show_faults, methods=["GET"])
        router.add_api_route("/sandbox/faults", self.clear_faults, methods=["DELETE"])
        router.add_api_route("/sandbox/faults/{target}", self.set_fault, methods=["PUT"])
        router.add_api_route("/sandbox/webhooks", self.show_webhooks, methods=["GET"])
        router.add_api_route("/sandbox/webhooks", self.set_webhooks, methods=["PUT"])
        router.add_api_route("/sandbox/receipts", self.show_receipts, methods=["GET"])
        router.add_api_route("/sandbox/receipts", self.set_receipts, methods=["PUT"])
        router.add_api_route("/sandbox/issuer/rotate", self.rotate, methods=["POST"])
        router.add_api_route("/sandbox/data", self.forget, methods=["DELETE"])
        return router

    async def health(self) -> Response:
        """Alive; it accepts calls only once everything is loaded, so ready too."""
        return JSONResponse({"status": "ok"})

    async def front(self, request: Request) -> Response:
        """The page that leads everywhere."""
        entries = {name: len(books) for name, books in self._books.items()}
        told = [target for target, url in self._receipts.shown().items() if url]
        lists = {
            "inbox": str(len(self._inbox.listed)),
            "sms": str(len(self._texts.listed)),
            "push": str(len(self._push.listed)),
            "ledger": ", ".join(f"{count} at provider {name}" for name, count in entries.items()),
            "webhooks": f"{self._webhooks.manner.mode}, to {self._webhooks.url or 'nowhere'}",
            "receipts": f"of {', '.join(told) or 'nothing'}",
        }
        here = str(request.base_url).rstrip("/")
        return pages.front(lists=lists, faults=self._faults.shown(), smtp_port=self._smtp_port, here=here)

    async def ledger(self, request: Request, look: Looked) -> Response:
        """Every charge and refund that was accepted, oldest first; newest first on the page for people."""
        show = partial(pages.listing, "Ledger")
        return _looked_at(request, look, self._ledger, of=look.order_id, show=show, newest_first=_for_people(request))

    async def inbox(self, request: Request, look: Looked) -> Response:
        """The mails, newest first."""
        return _looked_at(request, look, self._inbox.listed, of=look.to, show=pages.inbox)

    async def push(self, request: Request, look: Looked) -> Response:
        """The push notifications, newest first."""
        of = look.order_id or look.to
        return _looked_at(request, look, self._push.listed, of=of, show=partial(pages.listing, "Push"))

    async def sms(self, request: Request, look: Looked) -> Response:
        """The texts that either provider accepted, newest first."""
        return _looked_at(request, look, self._texts.listed, of=look.to, show=partial(pages.listing, "SMS"))

    async def text_in(self, body: InboundBody) -> Response:
        """Somebody writes to us, by way of Africa's Talking."""
        return JSONResponse(self._africas_talking.come_in(body).shown(), status_code=202)

    async def show_faults(self) -> Response:
        """Every target's present fault."""
        return JSONResponse({target: _dumped(fault) for target, fault in self._faults.shown().items()})

    async def set_fault(self, target: str, fault: Annotated[Fault | Mixture, Body()]) -> Response:
        """Replaces one target's fault by another or by a mixture."""
        if target not in self._faults.targets:
            known = ", ".join(self._faults.targets)
            return JSONResponse({"error": f"This sandbox has no such target; it has {known}."}, status_code=404)
        self._faults.set(target, fault)
        return JSONResponse(_dumped(fault))

    async def clear_faults(self) -> Response:
        """All well again, webhooks too."""
        self._faults.clear()
        self._webhooks.manner = Manner()
        return Response(status_code=204)

    async def show_webhooks(self, request: Request) -> Response:
        """How webhooks are sent, where to (empty: none are), and what became of the last, newest first."""
        newest = self._webhooks.newest()
        if _for_people(request):
            return pages.listing("Webhooks", newest[:_PAGE], total=len(newest))
        sent = {"url": self._webhooks.url, "deliveries": newest}
        return JSONResponse(self._webhooks.manner.model_dump(mode="json") | sent)

    async def set_webhooks(self, manner: Manner) -> Response:
        """How they are sent from now on."""
        self._webhooks.manner = manner
        return JSONResponse(manner.model_dump(mode="json"))

    async def show_receipts(self, request: Request) -> Response:
        """Where reports of texts and mails go (empty: none do), and what became of the last, newest first."""
        newest = self._receipts.newest()
        if _for_people(request):
            return pages.listing("Receipts", newest[:_PAGE], total=len(newest))
        return JSONResponse({"urls": self._receipts.shown(), "deliveries": newest})

    async def set_receipts(self, urls: Annotated[dict[Target, Url], Body()]) -> Response:
        """Where they go from now on; those of a target that isn't named go nowhere."""
        self._receipts.direct(urls)
        return JSONResponse(self._receipts.shown())

    # No coroutine: making a key takes a while.
    def rotate(self) -> Response:
        """A new signing key; tokens of the former one stay good until the next time."""
        return JSONResponse({"kid": self._issuer.rotate().kid})

    async def forget(self) -> Response:
        """Everything recorded forgotten; faults and the issuer's keys stay."""
        for party in (
            *self._providers,
            self._ledger,
            self._webhooks,
            self._receipts,
            self._inbox,
            self._postmaster,
            self._push,
            self._texts,
            self._africas_talking,
            self._inn8,
        ):
            party.forget()
        return Response(status_code=204)


def _looked_at(
    request: Request,
    look: Look,
    listed: Listed,
    *,
    of: str | None,
    show: Callable[..., Response],
    newest_first: bool = True,
) -> Response:
    """A page of a list; where the next one is stands in `Link` (RFC 8288), and on the page for people."""
    for_people = _for_people(request)
    limit = look.limit or (_PAGE if for_people else None)
    page = listed.page(of, limit=limit, cursor=look.cursor, newest_first=newest_first)
    following = ""
    if page.following is not None:
        following = f"{request.url.path}?{request.url.include_query_params(cursor=page.following).query}"
    if for_people:
        return show([json.loads(entry) for entry in page.entries], total=len(listed), following=following)
    headers = {"link": f'<{following}>; rel="next"'} if following else {}
    return Response(b"[%b]" % b",".join(page.entries), media_type="application/json", headers=headers)


def _dumped(fault: Fault | Mixture) -> Any:
    return [_dumped(each) for each in fault] if isinstance(fault, list) else fault.model_dump(mode="json")


def _for_people(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
