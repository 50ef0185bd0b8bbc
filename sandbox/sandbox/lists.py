"""What outside parties have recorded, for whoever looks: a page at a time, each entry encoded once, when it comes."""

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# More is never answered at once: 4000 mails, parsed at every look, once kept the payment providers waiting for 18 s.
LONGEST = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """JSON objects, and the cursor of the page after them; None where there is none."""

    entries: list[bytes]
    following: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    at: str
    names: frozenset[str]
    shown: bytes


class Listed:
    """Entries in the order in which they came, all or those of one name; a page is `longest` entries at most. A cursor
    is the place of an entry, so that what comes meanwhile moves no page that goes back in time."""

    def __init__(self, *, longest: int = LONGEST) -> None:
        self._longest = longest
        self._entries: list[_Entry] = []
        self._places: defaultdict[str, list[int]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Mapping[str, Any], *names: str) -> None:
        """The newest entry, which has its time as `at`, under each of these names in any case of letters."""
        folded = frozenset(name.casefold() for name in names)
        self._put(_Entry(at=entry["at"], names=folded, shown=json.dumps(entry).encode()))

    def sort(self) -> None:
        """By time: after entries were added that several files had kept."""
        entries = sorted(self._entries, key=lambda entry: entry.at)
        self.forget()
        for entry in entries:
            self._put(entry)

    def page(
        self,
        name: str | None = None,
        *,
        limit: int | None = None,
        cursor: int | None = None,
        newest_first: bool = True,
    ) -> Page:
        """At most `limit` entries, from `cursor` on: backwards in time, or forwards."""
        places = range(len(self._entries)) if name is None else self._places.get(name.casefold(), [])
        limit = min(limit or self._longest, self._longest)
        if newest_first:
            end = len(places) if cursor is None else bisect_left(places, cursor + 1)
            start = max(end - limit, 0)
            return self._page(places[start:end][::-1], places[start - 1] if start else None)
        start = 0 if cursor is None else bisect_left(places, cursor)
        end = min(start + limit, len(places))
        return self._page(places[start:end], places[end] if end < len(places) else None)

    def forget(self) -> None:
        """Nothing was ever recorded."""
        self._entries.clear()
        self._places.clear()

    def _put(self, entry: _Entry) -> None:
        for name in entry.names:
            self._places[name].append(len(self._entries))
        self._entries.append(entry)

    def _page(self, places: Sequence[int], following: int | None) -> Page:
        return Page(entries=[self._entries[place].shown for place in places], following=following)
