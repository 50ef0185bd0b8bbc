"""What becomes of texts and mails, told to whoever sent them: delivery reports, bounces, and texts that came in."""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote, urlencode
from uuid import uuid4

from pydantic import AfterValidator, Field
from yarl import URL

from sandbox.courier import Courier, Delivery, signing_key
from sandbox.records import stamp, utc_now

log = logging.getLogger(__name__)

Target = Literal["africas-talking", "africas-talking-inbound", "legacy", "smtp"]


def _readable(url: str) -> str:
    URL(url)  # raises ValueError
    return url


Url = Annotated[str, Field(max_length=2048, pattern=r"^(https?://[^/\s]\S*)?$"), AfterValidator(_readable)]

_TARGETS: tuple[Target, ...] = get_args(Target)
# Africa's Talking signs nothing: its customers put a secret of their own into the URL, here `?secret=`.
_UNSIGNED: tuple[Target, ...] = ("africas-talking", "africas-talking-inbound")

# After the answer, as a rule. Who is told before having noted the id has to be told again, which takes a second.
_AFTER_S = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """One thing told. `key` is the provider's id of what it is about; `data` is the form, or the event's `data`."""

    type: str
    key: str
    data: Mapping[str, str]
    id: str = field(default_factory=lambda: f"msg_{uuid4().hex}")


class Receipts:
    """Tells in the background, with the tries of webhooks; nothing outlives the process, or `forget`.

    `base` is where everything goes unless `direct` says otherwise: `{base}/{target}`. `secrets` are those of
    `africas-talking` (any text), `legacy` and `smtp` (`whsec_<base64>`); the first of several, after a comma, is used.
    """

    def __init__(
        self,
        *,
        base: str,
        secrets: Mapping[str, str],
        pause: Callable[[float], Awaitable[bool]],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        newest = {name: secret.partition(",")[0].strip() for name, secret in secrets.items()}
        self._keys = {
            target: signing_key(newest[target]) for target in _TARGETS if newest.get(target, "")[:6] == "whsec_"
        }
        self._clock = clock
        self._courier = Courier(pause=pause, clock=clock)
        self._urls: dict[Target, str] = {}
        if base:
            self.direct(_below(base.rstrip("/"), newest.get("africas-talking", "")))

    async def start(self) -> None:
        """Opens the connections' pool."""
        await self._courier.start()

    async def stop(self) -> None:
        """Drops what is not delivered yet."""
        await self._courier.stop()

    def direct(self, urls: Mapping[Target, str]) -> None:
        """Where reports go from now on; none of a target that isn't named, or that would have to sign and can't."""
        self._urls.clear()
        for target, url in urls.items():
            if url and (target in _UNSIGNED or target in self._keys):
                self._urls[target] = url
            elif url:
                log.warning("receipts.no-secret", extra={"keys": {"target": target}})

    def shown(self) -> dict[Target, str]:
        """Where they go; without what follows a question mark, which may be a secret."""
        return {target: self._urls.get(target, "").partition("?")[0] for target in _TARGETS}

    def wanted(self, target: Target) -> bool:
        """Whether anybody listens."""
        return target in self._urls

    def tell(self, target: Target, *reports: Report, late: float = 0) -> None:
        """Sends the reports, each after the one before it; the same one twice is sent twice."""
        url = self._urls.get(target)
        if url:
            made = {report.id: self._delivery(target, url, report) for report in reports}
            self._courier.send([made[report.id] for report in reports], wait=_AFTER_S + late)

    def newest(self) -> list[dict[str, Any]]:
        """The last reports and how they were taken, newest first."""
        return self._courier.newest()

    def forget(self) -> None:
        """Nothing was ever told, and what is under way never will be."""
        self._courier.forget()

    def _delivery(self, target: Target, url: str, report: Report) -> Delivery:
        at = self._clock()
        key = self._keys[target] if target not in _UNSIGNED else None
        if key is None:
            kind, body = "application/x-www-form-urlencoded", urlencode(report.data)
        else:
            event = {"type": report.type, "timestamp": stamp(at), "data": report.data}
            kind, body = "application/json", json.dumps(event, separators=(",", ":"))
        return Delivery(
            id=report.id,
            provider=target,
            type=report.type,
            key=report.key,
            at=at,
            url=url,
            body=body.encode(),
            content_type=kind,
            signing_key=key,
        )


def _below(base: str, secret: str) -> dict[Target, str]:
    query = f"?secret={quote(secret, safe='')}"
    return {target: f"{base}/{target}{query if target in _UNSIGNED else ''}" for target in _TARGETS}
