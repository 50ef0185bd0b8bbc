"""What a service keeps secret, read at start from the secret store through its sidecar."""

import asyncio
from collections.abc import Mapping

import structlog

from chassis.sidecar import Sidecar, SidecarDown

log = structlog.get_logger()

_AGAIN_SECONDS = 0.2
_SAY_EVERY = 50  # tries


async def read_secrets(sidecar: Sidecar, *, store: str, name: str) -> Mapping[str, str]:
    """The values of the secret `name` by key. Waits for the sidecar: a service can't begin without them."""
    tries = 0
    while True:
        try:
            return await sidecar.secret(store, name)
        except SidecarDown:
            tries += 1
            if tries % _SAY_EVERY == 1:
                log.warning("secrets.waiting", store=store, secret=name)
            await asyncio.sleep(_AGAIN_SECONDS)
