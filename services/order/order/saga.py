"""The story of an order, compensation included. It performs nothing and knows no engine."""

from typing import Literal

from chassis.story import Kind, Phase, Reference, Retry, Step, Story, Value
from order.declines import DeclineCode

WORKFLOW = "fulfil_order"  # its name as a Dapr Workflow


class OrderRef(Reference):
    """The order a saga is about."""


class Approved(Value):
    kind: Literal["approved"] = "approved"
    payment_id: str
    transaction_id: str


class Declined(Value):
    """The provider's final no: declined, or refused to process (`failed`)."""

    kind: Literal["declined"] = "declined"
    status: Literal["declined", "failed"]
    payment_id: str
    code: DeclineCode = DeclineCode.CARD_DECLINED  # of one in a history from before there were codes


class Confirmed(Value):
    """Now or earlier; `version` is the order's at this moment."""

    kind: Literal["confirmed"] = "confirmed"
    version: int
    paid: Approved


class TooLate(Value):
    """The order was cancelled or given up before its money came."""

    kind: Literal["too_late"] = "too_late"


class GivenBack(Value):
    kind: Literal["given_back"] = "given_back"
    code: DeclineCode


class Refunded(Value):
    kind: Literal["refunded"] = "refunded"


Outcome = Confirmed | GivenBack | Refunded


def fulfil_order(order: OrderRef) -> Story[Outcome]:
    """Charge, then confirm; a decline gives the stock back, and money that came too late goes back."""
    match (yield charge()):
        case Approved() as paid:
            match (yield confirm(paid)):
                case TooLate():
                    return (yield refund(paid))
                case confirmed:
                    return confirmed
        case Declined() as refusal:
            return (yield give_back(refusal))
        case unexpected:
            message = f"{order.id}: charge answered {unexpected!r}"
            raise AssertionError(message)


# How long payment may take to answer, and the way: no step of an order needs longer.
_SECONDS = 8.0
# What is owed and was refused, or broke, is tried for half an hour; after that it is a person's.
_INSIST = Retry(attempts=6, first_delay=5, factor=4)


def charge() -> Step:
    return Step(title="charge", timeout=_SECONDS)


def confirm(paid: Approved) -> Step:
    return Step(title="confirm", kind=Kind.THEN, phase=Phase.THEN, argument=paid, timeout=_SECONDS)


def give_back(refusal: Declined) -> Step:
    return _compensate("give_back", refusal)


def refund(paid: Approved) -> Step:
    return _compensate("refund", paid)


def _compensate(title: str, argument: Value) -> Step:
    return Step(
        title=title,
        kind=Kind.BUT,
        phase=Phase.COMPENSATION,
        argument=argument,
        timeout=_SECONDS,
        retry=_INSIST,
        skips=("confirm",),
    )
