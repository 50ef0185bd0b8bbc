"""The bench's peer on DBOS: FastAPI behind uvicorn, DBOS and the rows in one PostgreSQL database.

- `POST /two-steps`: a workflow of two durable steps, each of which does nothing by HTTP.
- `POST /api/v1/orders`: the same order as ours. Every effect is a step; the notification is a workflow of its own,
  started, and so durable, before the answer.

A row is written by a plain step that may be taken again (`ON CONFLICT DO NOTHING`), not by a datasource's transaction:
that would be exactly once, and cost three more statements. Pools are as DBOS ships them; no Conductor, no OTLP.
The two bare steps were measured as synchronous functions, each workflow in a thread, too: no quicker.
"""

import logging
import os
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any, cast

import orjson
import uvicorn
from dbos import DBOS, DBOSConfig, SetWorkflowID
from fastapi import FastAPI, Header, Request, Response
from work import Order, OrderRequest, Refused, Work, priced, shown

_HTTP = {"retries_allowed": True, "interval_seconds": 0.5, "max_attempts": 10}  # of a step that asks somebody


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with Work.opened() as work:
        app.state.work = work
        DBOS.launch()
        yield
        DBOS.destroy(workflow_completion_timeout_sec=5)


app = FastAPI(lifespan=_lifespan, openapi_url=None)


def _work() -> Work:
    return cast("Work", app.state.work)


@app.exception_handler(Refused)
async def refuse(_request: Request, refused: Refused) -> Response:
    return _json({"detail": refused.why}, refused.status)


def _json(content: Any, status: int) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


@app.get("/health")
async def health() -> Response:
    return _json({}, 200)


# --- two bare steps -----------------------------------------------------------------------------------------------


@DBOS.step(**_HTTP)
async def first() -> None:
    await _work().do_nothing()


@DBOS.step(**_HTTP)
async def second() -> None:
    await _work().do_nothing()


@DBOS.workflow()
async def two_steps() -> str:
    await first()
    await second()
    return "done"


@app.post("/two-steps")
async def run_two_steps() -> Response:
    handle = await DBOS.start_workflow_async(two_steps)
    return _json(await handle.get_result(), 200)


# --- an order -----------------------------------------------------------------------------------------------------


@DBOS.step(retries_allowed=True)
async def place(order: Order) -> None:
    await _work().place(order)


@DBOS.step(**_HTTP)
async def charge(order: Order) -> str:
    return await _work().charge(order)


@DBOS.step(retries_allowed=True)
async def confirm(order: Order, transaction_id: str) -> None:
    await _work().confirm(order, transaction_id)


@DBOS.step(retries_allowed=True)
async def decline(order: Order) -> None:
    await _work().decline(order)


@DBOS.step(retries_allowed=True)
async def enqueue(order: Order) -> None:
    await _work().enqueue(order)


@DBOS.step(**_HTTP)
async def send(order: Order) -> None:
    await _work().send(order)


@DBOS.step(retries_allowed=True)
async def sent(order: Order) -> None:
    await _work().sent(order)


@DBOS.workflow()
async def fulfil(order: Order) -> str:
    """The transaction's id; empty where the card was declined."""
    await place(order)
    transaction_id = await charge(order)
    if not transaction_id:
        await decline(order)
        return ""
    await confirm(order, transaction_id)
    with SetWorkflowID(f"{order['id']}:confirmed"):
        await DBOS.start_workflow_async(tell, order)
    return transaction_id


@DBOS.workflow()
async def tell(order: Order) -> None:
    await enqueue(order)
    await send(order)
    await sent(order)


@app.post("/api/v1/orders")
async def place_order(body: OrderRequest, authorization: Annotated[str, Header()] = "") -> Response:
    order = priced(body, str(uuid.uuid4()), await _work().tokens.caller(authorization))
    with SetWorkflowID(order["id"]):
        handle = await DBOS.start_workflow_async(fulfil, order)
    transaction_id = await handle.get_result()
    if not transaction_id:
        raise Refused(402, "The card was declined.")
    return _json(shown(order | {"status": "confirmed", "transactionId": transaction_id}), 201)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    DBOS(
        config=DBOSConfig(
            name="bench",
            system_database_url=os.environ["PEER_ROWS"],
            application_version="1",
            log_level="WARNING",
        )
    )
    uvicorn.run(
        app,
        port=int(os.environ["PEER_PORT"]),
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        proxy_headers=False,
        log_level="warning",
    )
