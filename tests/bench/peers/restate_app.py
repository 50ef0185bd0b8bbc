"""The bench's peer on Restate: its Python SDK behind Hypercorn, called through Restate's own ingress.

- `POST {ingress}/TwoSteps/{a new key}/run`: a workflow of two durable steps, each of which does nothing by HTTP.
- `POST {ingress}/Orders/place`: the same order as ours, its rows in SQLite. Every effect is a step (`ctx.run_typed`),
  and the notification is a message to a handler of its own, sent durably before the answer.

As Restate's documentation has it for production: Hypercorn with these limits, the runtime's own durability and retries
untouched. The ingress answers 200 where ours says 201. Whatever depends on the hour, the token's age too, is inside of
a step, so that a replay finds what the first run found.
"""

import asyncio
import logging
import os
from typing import Any

import hypercorn
import hypercorn.asyncio
import restate
import uvloop
from restate.server import install_shutdown_hook
from work import Order, Refused, Work, priced, shown, validated

_NO_LIMIT = 2**31 - 1


def app(work: Work) -> Any:
    return restate.app([_two_steps(work), *_orders(work)])


def _two_steps(work: Work) -> restate.Workflow:
    workflow = restate.Workflow("TwoSteps")

    @workflow.main()
    async def run(ctx: restate.WorkflowContext) -> str:
        await ctx.run_typed("first", work.do_nothing)
        await ctx.run_typed("second", work.do_nothing)
        return "done"

    return workflow


def _orders(work: Work) -> list[restate.Service]:
    orders = restate.Service("Orders")
    notifications = restate.Service("Notifications", ingress_private=True)

    async def accept(order_id: str, bearer: str, body: dict[str, Any]) -> Order:
        try:
            caller = await work.tokens.caller(bearer)
            order = priced(validated(body), order_id, caller)
        except Refused as refused:
            raise restate.TerminalError(refused.why, status_code=refused.status) from None
        await work.place(order)
        return order

    @orders.handler()
    async def place(ctx: restate.Context, body: dict[str, Any]) -> Order:
        bearer = ctx.request().headers.get("authorization", "")
        order_id = str(ctx.uuid())  # the same one at a replay
        order = await ctx.run_typed("place", accept, order_id=order_id, bearer=bearer, body=body)
        transaction_id = await ctx.run_typed("charge", work.charge, order=order)
        if not transaction_id:
            await ctx.run_typed("decline", work.decline, order=order)
            raise restate.TerminalError("The card was declined.", status_code=402)
        await ctx.run_typed("confirm", work.confirm, order=order, transaction_id=transaction_id)
        ctx.service_send(tell, arg=order)
        return shown(order | {"status": "confirmed", "transactionId": transaction_id})

    @notifications.handler()
    async def tell(ctx: restate.Context, order: Order) -> None:
        await ctx.run_typed("enqueue", work.enqueue, order=order)
        await ctx.run_typed("send", work.send, order=order)
        await ctx.run_typed("sent", work.sent, order=order)

    return [orders, notifications]


async def main() -> None:
    config = hypercorn.Config()
    config.bind = [f"127.0.0.1:{os.environ['PEER_PORT']}"]
    config.h2_max_concurrent_streams = config.keep_alive_max_requests = config.keep_alive_timeout = _NO_LIMIT
    config.loglevel = "WARNING"
    stop = asyncio.Event()
    install_shutdown_hook(asyncio.get_running_loop(), stop.set)  # the SDK's: it would replace Hypercorn's own
    async with Work.opened() as work:
        await hypercorn.asyncio.serve(app(work), config, shutdown_trigger=stop.wait)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(main())
