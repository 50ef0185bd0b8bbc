"""One connection, byte by byte: what no HTTP client would send."""

import asyncio


async def said(port: int, *segments: bytes) -> bytes:
    """Everything that is answered until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for segment in segments:
        writer.write(segment)
        await writer.drain()
        await asyncio.sleep(0.05)  # segments of their own; one that is not parts nothing wrongly
    answers = await reader.read()
    writer.close()
    return answers
