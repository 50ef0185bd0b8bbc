"""The story of an event that is told step by step: each step's recipients hear only after the step before has reached
its own. It performs nothing and knows no engine."""

from typing import Literal

from chassis.saga import Kind, Phase, Reference, Step, Story, Value

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


def tell(name: str) -> Step:
    return Step(title="tell", argument=TellStep(name=name))


def complete() -> Step:
    return Step(title="complete", kind=Kind.THEN, phase=Phase.THEN)
