"""A service in this process, for tests that need no sidecar."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI


@asynccontextmanager
async def serving(app: FastAPI, headers: Mapping[str, str]) -> AsyncGenerator[httpx.AsyncClient]:
    """Started and, when left, stopped; its client sends `headers`."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", headers=dict(headers)) as client,
    ):
        yield client
