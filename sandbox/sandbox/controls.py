"""The sandbox's own API: what was delivered and charged, and what shall go wrong. Not a part of the outside world."""

from collections.abc import Sequence

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from sandbox import pages
from sandbox.faults import Fault, Faults
from sandbox.issuer import Issuer
from sandbox.ledger import Books
from sandbox.mail import Inbox
from sandbox.payments import ProviderA
from sandbox.push import PushProvider

# A page with every mail of a benchmark in it would be of no use to anybody.
_PAGE = 100

Limit = Query(default=None, ge=0)


class Controls:
    """Reads and resets every party. A new one joins the constructor, a list and `forget`."""

    def __init__(
        self,
        *,
        faults: Faults,
        books: Sequence[Books],
        provider_a: ProviderA,
        inbox: Inbox,
        push: PushProvider,
        issuer: Issuer,
        smtp_port: int,
    ) -> None:
        self._faults = faults
        self._books = books
        self._provider_a = provider_a
        self._inbox = inbox
        self._push = push
        self._issuer = issuer
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
        router.add_api_route("/sandbox/faults", self.show_faults, methods=["GET"])
        router.add_api_route("/sandbox/faults", self.clear_faults, methods=["DELETE"])
        router.add_api_route("/sandbox/faults/{target}", self.set_fault, methods=["PUT"])
        router.add_api_route("/sandbox/issuer/rotate", self.rotate, methods=["POST"])
        router.add_api_route("/sandbox/data", self.forget, methods=["DELETE"])
        return router

    async def health(self) -> Response:
        """Alive; it accepts calls only once everything is loaded, so ready too."""
        return JSONResponse({"status": "ok"})

    async def front(self, request: Request) -> Response:
        """The page that leads everywhere."""
        lists = {"inbox": len(self._inbox), "push": len(self._push), "ledger": len(self._entries())}
        here = str(request.base_url).rstrip("/")
        return pages.front(lists=lists, faults=self._faults.shown(), smtp_port=self._smtp_port, here=here)

    async def ledger(self, request: Request, order_id: str | None = Query(default=None, alias="orderId")) -> Response:
        """Every charge and refund that was accepted, oldest first; newest first on the page."""
        entries = self._entries()
        if order_id is not None:
            entries = [entry for entry in entries if entry["orderId"] == order_id]
        if _for_people(request):
            return pages.listing("Ledger", entries[::-1][:_PAGE], total=len(entries))
        return JSONResponse(entries)

    # No coroutine: parsing many mails takes seconds, which a thread spends while payments go on.
    def inbox(self, request: Request, to: str | None = None, limit: int | None = Limit) -> Response:
        """The mails, newest first."""
        if _for_people(request):
            return pages.inbox(
                self._inbox.newest(to=to, limit=_PAGE if limit is None else limit), total=len(self._inbox)
            )
        return JSONResponse(self._inbox.newest(to=to, limit=limit))

    async def push(self, request: Request, limit: int | None = Limit) -> Response:
        """The push notifications, newest first."""
        if _for_people(request):
            return pages.listing("Push", self._push.newest(_PAGE if limit is None else limit), total=len(self._push))
        return JSONResponse(self._push.newest(limit))

    async def show_faults(self) -> Response:
        """Every target's present fault."""
        return JSONResponse({target: fault.model_dump(mode="json") for target, fault in self._faults.shown().items()})

    async def set_fault(self, target: str, fault: Fault) -> Response:
        """Replaces one target's fault."""
        if target not in self._faults.targets:
            known = ", ".join(self._faults.targets)
            return JSONResponse({"error": f"This sandbox has no such target; it has {known}."}, status_code=404)
        self._faults.set(target, fault)
        return JSONResponse(fault.model_dump(mode="json"))

    async def clear_faults(self) -> Response:
        """All well again."""
        self._faults.clear()
        return Response(status_code=204)

    # No coroutine: making a key takes a while.
    def rotate(self) -> Response:
        """A new signing key; tokens of the former one stay good until the next time."""
        return JSONResponse({"kid": self._issuer.rotate().kid})

    async def forget(self) -> Response:
        """Everything recorded forgotten; faults and the issuer's keys stay."""
        for party in (self._provider_a, self._inbox, self._push):
            party.forget()
        return Response(status_code=204)

    def _entries(self) -> list[dict[str, str | None]]:
        # Times in this form sort as they happened.
        return sorted((entry for books in self._books for entry in books.entries()), key=lambda entry: str(entry["at"]))


def _for_people(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
