"""What a story is told in: the words that a saga's generator yields, and the policy of each of its steps, as data.

A story yields a `Step`, or several `Together`, and is sent what came of it. It performs nothing and knows no engine.
"""

from collections.abc import Generator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

AT_ONCE = 4  # steps performed at the same time

Outcome = TypeVar("Outcome")
Story = Generator["Step | Together", Any, Outcome]


class Value(BaseModel):
    """What goes into a step and comes out of it: immutable, and JSON between durable steps."""

    model_config = ConfigDict(frozen=True)


class Unknown(Value):
    """The step's outcome could not be learned yet. It may have happened; it is never a refusal. `pending` says that
    nothing went wrong: it only takes its time."""

    kind: Literal["unknown"] = "unknown"
    reason: str = ""
    pending: bool = False


class Failed(Value):
    """The step broke, or was refused. A story is only told of it where the step's policy is to continue; `reason` is an
    error's class or a refusal's word, never its text."""

    kind: Literal["failed"] = "failed"
    reason: str


class Reference(Value):
    """What a saga is about: enough to load it again, whose it is, and the trace it belongs to."""

    tenant: str
    tenant_name: str = ""
    id: str
    traceparent: str = ""


class Phase(StrEnum):
    GIVEN = "given"
    WHEN = "when"
    THEN = "then"
    COMPENSATION = "compensation"


class Kind(StrEnum):
    """The word by which the story tells a step; a compensation is its "but"."""

    GIVEN = "Given"
    WHEN = "When"
    THEN = "Then"
    AND = "And"
    BUT = "But"


class OnError(StrEnum):
    """What a step that failed for good means: the story stops there, or it is told `Failed` and goes on."""

    STOP = "stop"
    CONTINUE = "continue"


class Retry(Value):
    """How often a step that failed is performed in all, and the seconds before the second time; each further wait is
    `factor` times the one before. By the durable driver alone: the inline one repeats nothing, it hands over."""

    attempts: int = Field(default=1, ge=1)
    first_delay: float = Field(default=1.0, gt=0)
    factor: float = Field(default=2.0, ge=1)

    @property
    def longest(self) -> float:
        """Seconds: the last of the waits."""
        return self.first_delay * self.factor ** (self.attempts - 2) if self.attempts > 1 else 0.0


ONCE = Retry()


@dataclass(frozen=True, kw_only=True)
class Step:
    """One side effect to perform. Its title names it, for whoever performs it too; `argument` is what it needs beside
    the saga's reference. Past `timeout` seconds its outcome is unknown. `skips` are the steps that will not come any
    more once this one is performed; the timeline says so.
    """

    title: str
    kind: Kind = Kind.WHEN
    phase: Phase = Phase.WHEN
    argument: Value | None = None
    timeout: float = 30.0
    retry: Retry = ONCE
    on_error: OnError = OnError.STOP
    skips: tuple[str, ...] = ()

    @property
    def may_fail(self) -> bool:
        """Whether there is an end to asking again, after `retry`: the story is told, or it is a person's. Of any other
        step nobody knows whether it happened before it broke: it is asked about until that is known."""
        return self.on_error is OnError.CONTINUE or self.phase is Phase.COMPENSATION


class Together:
    """Steps that need nothing of each other: performed at the same time. The story is sent their outcomes in order."""

    def __init__(self, *steps: Step) -> None:
        if not 2 <= len(steps) <= AT_ONCE:
            raise ValueError(f"2 to {AT_ONCE} steps together, not {len(steps)}")
        self.steps = steps
