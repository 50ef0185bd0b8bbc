"""INN8's lists, through the sidecar (contracts/inn8.json). What comes is looked at before anything is made of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from urllib.parse import urlencode

from chassis.sidecar import Answer, Sidecar
from datasource.access_token import Token
from datasource.busy import raise_if_busy
from datasource.domain import CursorRefused, Entity, SourceFailed


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """`items` as they came; `next` is the cursor of the following page, None where this is the last."""

    items: list[Any]
    next: str | None


class Inn8:
    """One source. `endpoint` is its HTTPEndpoint."""

    def __init__(self, sidecar: Sidecar, endpoint: str, token: Token, *, page_rows: int) -> None:
        self._sidecar = sidecar
        self._endpoint = endpoint
        self._token = token
        self._page_rows = page_rows

    async def page(self, entity: Entity, *, since: datetime | None, cursor: str | None) -> Page:
        """Rows that were updated at `since` or later, oldest change first. Raises Busy, SourceFailed, and CursorRefused
        where the source no longer knows the cursor."""
        wanted = {
            "limit": str(self._page_rows),
            **({"updatedSince": since.isoformat()} if since else {}),
            **({"cursor": cursor} if cursor else {}),
        }
        answer = await self._ask(f"{entity}?{urlencode(wanted)}")
        if cursor and answer.status in {400, 404, 410} and not answer.from_sidecar:
            raise CursorRefused(f"The source refuses the cursor ({answer.status}).")
        page = _read(answer)
        if page.next is not None and page.next == cursor:
            raise SourceFailed("The source's pages go round in a circle.")
        return page

    async def _ask(self, path: str) -> Answer:
        """With another token, once, where the one we have is refused."""
        for _ in range(2):
            token = await self._token.get()
            answer = await self._sidecar.invoke(
                self._endpoint, path, verb="GET", headers={"Authorization": f"Bearer {token}"}
            )
            if answer.status != 401 or answer.from_sidecar:
                return answer
            self._token.forget(token)
        raise SourceFailed("The source refuses a token that it has just granted.")


def _read(answer: Answer) -> Page:
    raise_if_busy(answer)
    if answer.from_sidecar:
        raise SourceFailed("The source can't be reached.")
    if not 200 <= answer.status < 300:
        raise SourceFailed(f"The source answers {answer.status}.")
    data = cast("dict[str, Any]", answer.data) if isinstance(answer.data, dict) else {}
    items, following = data.get("items"), data.get("next", 0)
    if not isinstance(items, list) or not isinstance(following, str | None):
        raise SourceFailed("The source's answer can't be read.")
    return Page(items=cast("list[Any]", items), next=following or None)
