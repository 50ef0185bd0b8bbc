"""The order service as a later release could be: between the charge and its confirmation its story has one step more,
under a version of its own, which is the latest where `LATEST` says so. What is in flight goes on with the story that it
began with."""

import os
from typing import Any

import structlog
from dapr.ext.workflow import WorkflowRuntime

from chassis.saga import Performer, Run
from chassis.server import serve
from chassis.story import Step, Story, Value
from order.app import SERVICE, create_app
from order.saga import Approved, Declined, OrderRef, Outcome, TooLate, charge, confirm, give_back, refund
from order.settings import Settings
from order.telemetry import SPELT

log = structlog.get_logger()


class Thanked(Value):
    """The step's only outcome."""


def fulfil_order(_order: OrderRef) -> Story[Outcome]:
    match (yield charge()):
        case Approved() as paid:
            yield Step(title="thank")
            match (yield confirm(paid)):
                case TooLate():
                    return (yield refund(paid))
                case confirmed:
                    return confirmed
        case Declined() as refusal:
            return (yield give_back(refusal))
        case unexpected:
            raise AssertionError(unexpected)


async def thank(order: OrderRef, _argument: None, _run: Run) -> Thanked:
    log.info("order.thanked", order_id=order.id)
    return Thanked()


def main() -> None:
    settings = Settings()
    app = create_app(settings, runtime=WorkflowRuntime(port=str(settings.dapr_grpc_port)))
    saga: Any = app.state.services.saga
    if os.environ["LATEST"] == "2":
        saga.others, saga.version, saga.story = {saga.version: saga.story}, "2", fulfil_order
    else:
        saga.others = {"2": fulfil_order}
    saga.performers["thank"] = Performer(perform=thank, outcome=Thanked)
    serve(app, settings, service=SERVICE, spelt=SPELT)


if __name__ == "__main__":
    main()
