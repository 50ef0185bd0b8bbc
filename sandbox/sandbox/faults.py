"""What is wrong with the outside world right now, by order of whoever tests against it."""

import asyncio
import math
import random
from collections.abc import Callable, Iterable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Mode = Literal["ok", "error", "timeout", "throttle", "reset", "lost-reply"]

# The contract's providers process a request within 30 s or never; slower work would break that promise.
_SLOWEST_WORK_MS = 25_000
_TIMEOUT_MS = 30_000

_CHANCE = random.SystemRandom().random


class Fault(BaseModel):
    """One target's trouble. `delay_ms` passes before anything else happens, in every mode.

    `count` is the number of calls still to be hit, None for no end; `rate` is the chance of each call to be hit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)

    mode: Mode = "ok"
    status: int | None = Field(default=None, ge=400, le=599)
    delay_ms: int | None = Field(default=None, alias="delayMs", ge=0, le=600_000)
    rate: float = Field(default=1.0, ge=0, le=1)
    count: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _works_in_time(self) -> Self:
        if self.mode in {"ok", "lost-reply"} and (self.delay_ms or 0) > _SLOWEST_WORK_MS:
            raise ValueError(f"a request is processed within 30 s or never: at most {_SLOWEST_WORK_MS} ms in this mode")
        return self

    @property
    def delay(self) -> float:
        """Seconds to wait first."""
        standard = _TIMEOUT_MS if self.mode == "timeout" else 0
        return (standard if self.delay_ms is None else self.delay_ms) / 1000


def _adds_up(mixture: list[Fault]) -> list[Fault]:
    if math.fsum(fault.rate for fault in mixture) > 1:
        raise ValueError("a call is hit by one fault at most: the rates add up to 1 or less")
    return mixture


# Several faults of one target; the rates are the shares of all calls, and what is left of 1 is spared.
Mixture = Annotated[list[Fault], AfterValidator(_adds_up)]


class Faults:
    """Every target's fault. They end with the process; records don't."""

    def __init__(self, targets: Iterable[str], *, chance: Callable[[], float] = _CHANCE) -> None:
        self.targets = tuple(sorted(targets))
        self._faults: dict[str, Fault | list[Fault]] = {}
        self._chance = chance
        self._stopping = asyncio.Event()

    def set(self, target: str, fault: Fault | Mixture) -> None:
        """Replaces the target's fault; no fault in a list is none."""
        self._faults.pop(target, None)
        if fault:
            self._faults[target] = fault

    def clear(self) -> None:
        """All well again."""
        self._faults.clear()

    def shown(self) -> dict[str, Fault | list[Fault]]:
        """Every target with its fault, or the list that was set; `ok` where there is none."""
        return {target: self._faults.get(target, Fault()) for target in self.targets}

    def strike(self, target: str, *, can_lose_reply: bool = True) -> Fault | None:
        """The fault that hits this call, counted down; None when it is spared."""
        known = self._faults.get(target)
        if known is None:
            return None
        mixture = known if isinstance(known, list) else [known]
        drawn, up_to = self._chance(), 0.0
        for fault in mixture:
            up_to += fault.rate
            if drawn < up_to:
                if fault.mode == "lost-reply" and not can_lose_reply:
                    return None
                self._count_down(target, fault)
                return fault
        return None

    def _count_down(self, target: str, hit: Fault) -> None:
        if hit.count is None:
            return
        left = [hit.model_copy(update={"count": hit.count - 1})] if hit.count > 1 else []
        known = self._faults[target]
        if isinstance(known, list):
            place = next(place for place, fault in enumerate(known) if fault is hit)
            # The others keep their shares: the calls that this one would have hit are spared from now on.
            self.set(target, [*known[:place], *left, *known[place + 1 :]])
        else:
            self.set(target, left[0] if left else [])

    async def pause(self, seconds: float) -> bool:
        """Waits; False, at once, when the sandbox stops meanwhile and nothing more should be done."""
        if not seconds:
            return not self._stopping.is_set()
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return True
        return False

    def let_go(self) -> None:
        """Ends every pause: the sandbox stops."""
        self._stopping.set()
