"""The story of an event that is told step by step: each step's recipients hear only after the step before has reached
its own. It performs nothing and knows no engine."""

from typing import Literal

from chassis.story import Kind, OnError, Phase, Reference, Retry, Step, Story, Value

WORKFLOW = "tell_in_turn"


class TellRef(Reference):
    """The event a saga is about; `id` is its correlation id."""

    steps: tuple[str, ...]


class TellStep(Value):
    name: str


class StepEnded(Value):
    """`sent` once a provider took one of its messages; else it failed or its time ran out."""

    kind: Literal["told"] = "told"
    step: str
    sent: bool


class Completed(Value):
    kind: Literal["completed"] = "completed"


def tell_in_turn(event: TellRef) -> Story[Completed]:
    """A step that reaches nobody doesn't keep the next from hearing: staff must learn of an application whose
    customer's number was wrong. What became of each step stands in the saga's record."""
    for name in event.steps:
        yield tell(name)
    return (yield complete())


_SECONDS = 8.0  # a step queues messages and waits for a moment; a timer waits for the rest
_INSIST = Retry(attempts=4, first_delay=2, factor=4)  # for 42 s: then the next step shall hear all the same


def tell(name: str) -> Step:
    return Step(title="tell", argument=TellStep(name=name), timeout=_SECONDS, retry=_INSIST, on_error=OnError.CONTINUE)


def complete() -> Step:
    return Step(title="complete", kind=Kind.THEN, phase=Phase.THEN, timeout=_SECONDS)
