"""Ours beside two durable engines, in turns and several rounds: what the machine does besides falls on all alike."""

import argparse
import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Generator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import orders
from load import Call, alone, many
from peers import run

from stack import postgres
from stack.sidecars import Stack

_WARM = 20
Figures = dict[str, Any]


class _Subject(Protocol):
    def cpu_seconds(self) -> Mapping[str, float]: ...
    def memory(self) -> Mapping[str, int]: ...


def measure(options: argparse.Namespace, folder: Path) -> Figures:
    """By the name of what was measured: a row of figures for each round."""
    rows: dict[str, list[Figures]] = defaultdict(list)
    for number in range(1, options.rounds + 1):
        for way in (_ours_on_sqlite, _ours_on_postgresql, _restate, _dbos, _plain):
            print(f"round {number} of {options.rounds}: {way.__name__.strip('_').replace('_', ' ')} …", flush=True)
            with tempfile.TemporaryDirectory(dir=folder) as made:
                try:
                    for name, figures in way(options, Path(made)):
                        rows[name].append(figures)
                except run.Missing as missing:
                    print(missing)
    return {"turns": dict(rows)}


def _ours_on_sqlite(options: argparse.Namespace, folder: Path) -> Generator[tuple[str, Figures]]:
    with orders.stack(folder, orders.on_sqlite(folder)) as running:
        yield "order, ours, SQLite", asyncio.run(ours(running, running, options))


def _ours_on_postgresql(options: argparse.Namespace, folder: Path) -> Generator[tuple[str, Figures]]:
    yield "order, ours, PostgreSQL", on_postgresql(options, folder, replicas=1)


def on_postgresql(options: argparse.Namespace, folder: Path, *, replicas: int) -> Figures:
    with postgres.running(under=Path(tempfile.gettempdir())) as server:
        databases = orders.on_postgresql(server, "bench")
        with orders.stack(folder, databases, replicas=replicas) as running:
            return asyncio.run(ours(running, run.WithPostgres(running, databases["order"]), options))


async def ours(running: Stack, subject: _Subject, options: argparse.Namespace) -> Figures:
    outside = run.Sandbox(url=running.url("sandbox"), smtp_port=0)
    async with orders.connected(running) as bench:
        figures = await _measured(bench.place, subject, options)
        figures["to_inbox"] = await bench.to_inbox()
        return figures | {"wrong": await run.undelivered(bench.session, outside, bench.placed)}


def _restate(options: argparse.Namespace, folder: Path) -> Generator[tuple[str, Figures]]:
    with run.sandbox(folder) as outside, run.restate(folder, outside) as peer:
        yield from asyncio.run(_of_peer("Restate", peer, outside, options)).items()


def _dbos(options: argparse.Namespace, folder: Path) -> Generator[tuple[str, Figures]]:
    with (
        postgres.running(under=Path(tempfile.gettempdir())) as server,
        run.sandbox(folder) as outside,
        run.dbos(folder, outside, server.create("dbos")) as peer,
    ):
        yield from asyncio.run(_of_peer("DBOS", peer, outside, options)).items()


async def _of_peer(name: str, peer: run.Peer, outside: run.Sandbox, options: argparse.Namespace) -> dict[str, Figures]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        bare = await _measured(partial(peer.two_steps, session), peer, options)
        session.headers["Authorization"] = await outside.bearer(session)
        order = await _measured(partial(peer.order, session, orders.BODY), peer, options)
        order["wrong"] = await run.undelivered(session, outside, peer.placed)
    return {f"two bare steps, {name}": bare, f"order, {name}": order}


def _plain(options: argparse.Namespace, folder: Path) -> Generator[tuple[str, Figures]]:
    async def measured(floor: run.Plain) -> Figures:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            return await _measured(partial(floor.two_steps, session), floor, options)

    with run.plain(folder) as floor:
        yield "two calls, nothing durable", asyncio.run(measured(floor))


async def _measured(call: Call, subject: _Subject, options: argparse.Namespace) -> Figures:
    await alone(call, _WARM)  # code paths, connections, statement caches
    figures: Figures = {"alone": await alone(call, options.alone // 2)}
    before = subject.cpu_seconds()
    figures["many"] = await many(call, options.clients, options.seconds * 0.75)
    await asyncio.sleep(orders.DELIVERED_WITHIN)  # what follows an order belongs to its cost
    figures["cpu_ms_each"] = orders.cpu_ms_each(before, subject.cpu_seconds(), figures["many"]["count"])
    return figures | {"memory_mb": orders.memory_mb(subject.memory())}
