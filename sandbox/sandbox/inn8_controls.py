"""What whoever tests against INN8 may do to it. Not a part of the outside world."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from sandbox.inn8 import Inn8, Manner
from sandbox.inn8_rows import Entity


class Inn8Controls:
    def __init__(self, inn8: Inn8) -> None:
        self._inn8 = inn8

    def routes(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/sandbox/inn8", self.show, methods=["GET"])
        router.add_api_route("/sandbox/inn8", self.behave, methods=["PUT"])
        router.add_api_route("/sandbox/inn8/tokens", self.forget_tokens, methods=["DELETE"])
        router.add_api_route("/sandbox/inn8/{entity}/{row_id}", self.put, methods=["PUT"])
        router.add_api_route("/sandbox/inn8/{entity}/{row_id}", self.delete, methods=["DELETE"])
        return router

    async def show(self) -> Response:
        """How INN8 behaves, and how many rows it has."""
        return JSONResponse(self._inn8.manner.model_dump(mode="json") | {"rows": dict(self._inn8.counts())})

    async def behave(self, manner: Manner) -> Response:
        """From now on; what is left out is as usual."""
        self._inn8.behave(manner)
        return JSONResponse(self._inn8.manner.model_dump(mode="json"))

    async def forget_tokens(self) -> Response:
        """Every token is refused from now on, whatever was said of its life."""
        self._inn8.forget_tokens()
        return Response(status_code=204)

    async def put(self, entity: Entity, row_id: str, members: dict[str, Any]) -> Response:
        """Changes these members of a row, now, or at the `updatedAt` among them; a row that isn't there is made."""
        return JSONResponse(self._inn8.put(entity, row_id, members))

    async def delete(self, entity: Entity, row_id: str) -> Response:
        """The row is gone, without a trace in any list."""
        return Response(status_code=204 if self._inn8.records(entity).delete(row_id) else 404)
