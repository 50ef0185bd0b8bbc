"""Uploads to the back office: how long eight of 10 MB take at once, and what memory they take meanwhile."""

import asyncio
import os
import time
from collections.abc import AsyncIterator

import httpx
import psutil
from memory import watched

FILES = "/api/v1/files"
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
_PIECE = 2**16


async def form(size: int) -> AsyncIterator[bytes]:
    """A multipart/form-data body, whose `Content-Type` is FORM, with a file of so many bytes, piece by piece."""
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n%PDF-1.7'
    left = size - len(b"%PDF-1.7")
    while left > 0:
        yield os.urandom(min(left, _PIECE))
        left -= _PIECE
    yield b"\r\n--b--\r\n"


async def upload_at_once(
    client: httpx.AsyncClient, process: psutil.Process, *, uploads: int, size: int
) -> dict[str, float]:
    """`client` calls the back office, whose process `process` is. Seconds, MB/s, and its resident memory in MB."""
    async with watched(process) as memory:
        began = time.perf_counter()
        answers = await asyncio.gather(*(client.post(FILES, content=form(size), headers=FORM) for _ in range(uploads)))
        seconds = time.perf_counter() - began
    assert [answer.status_code for answer in answers] == [201] * uploads
    return {
        "seconds": round(seconds, 2),
        "mb_per_second": round(uploads * size / 1e6 / seconds, 1),
        **memory,
    }
