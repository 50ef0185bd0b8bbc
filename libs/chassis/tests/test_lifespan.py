"""What was started stops, the last one first, whatever becomes of the others."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from chassis import lifespan
from chassis.db import Database
from chassis.lifespan import Lifespan
from stack.eventually import eventually


class Part:
    def __init__(self, name: str, story: list[str], *, breaks: bool = False) -> None:
        self._name = name
        self._story = story
        self._breaks = breaks

    async def start(self) -> None:
        if self._breaks:
            raise RuntimeError(self._name)
        self._story.append(f"{self._name} up")

    async def stop(self) -> None:
        self._story.append(f"{self._name} down")
        if self._name == "b":
            raise RuntimeError("b can't stop")


async def live(*parts: lifespan.Part, loop: Coroutine[Any, Any, None] | None = None) -> None:
    async with Lifespan() as living:
        for part in parts:
            await living.start(part)
        if loop is not None:
            living.loop(loop, name="loop")
            await asyncio.sleep(0)


async def test_parts_stop_in_reverse_and_one_that_cannot_keeps_no_other_from_it():
    story: list[str] = []

    with pytest.raises(RuntimeError, match="b can't stop"):
        await live(*(Part(name, story) for name in "abc"))

    assert story == ["a up", "b up", "c up", "c down", "b down", "a down"]


async def test_where_one_cannot_start_those_before_it_stop():
    story: list[str] = []

    with pytest.raises(RuntimeError, match="c"):
        await live(Part("a", story), Part("c", story, breaks=True))

    assert story == ["a up", "a down"]


async def test_a_loop_is_cancelled_and_waited_for_before_what_it_works_with_stops():
    story: list[str] = []

    async def work() -> None:
        try:
            story.append("working")
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            story.append("ended")

    async with Lifespan() as living:
        await living.start(Part("a", story))
        living.loop(work(), name="work")
        await eventually(lambda: "working" in story, every=0.001)

    assert story == ["a up", "working", "ended", "a down"]


async def test_a_loop_that_broke_stops_the_rest_all_the_same(database_url: str):
    async def work() -> None:
        raise RuntimeError("broken loop")

    with pytest.raises(RuntimeError, match="broken loop"):
        await live(Database(database_url), loop=work())

    again = Database(database_url)  # its lock is free
    await again.start()
    await again.stop()
