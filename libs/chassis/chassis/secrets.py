"""What a service keeps secret, read at start from the secret store through its sidecar."""

import asyncio
from collections.abc import Mapping

import structlog

from chassis.sidecar import Sidecar, SidecarDown

log = structlog.get_logger()

_AGAIN_SECONDS = 0.2
_SAY_EVERY = 50  # tries


class SecretIncomplete(Exception):
    """The secret is there, and a value that the service needs is not in it."""


async def read_secrets(sidecar: Sidecar, *, store: str, name: str, needs: tuple[str, ...]) -> Mapping[str, str]:
    """The values of the secret `name` by key. Waits for the sidecar: a service can't begin without them.

    Raises SecretIncomplete when one of `needs` is missing.
    """
    tries = 0
    while True:
        try:
            found = await sidecar.secret(store, name)
        except SidecarDown:
            tries += 1
            if tries % _SAY_EVERY == 1:
                log.warning("secrets.waiting", store=store, secret=name)
            await asyncio.sleep(_AGAIN_SECONDS)
        else:
            if missing := [key for key in needs if not found.get(key)]:
                raise SecretIncomplete(f"the secret {name} in the store {store} has no {', '.join(missing)}")
            return found
