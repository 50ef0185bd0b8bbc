"""Dead letters: what an app could not process, and its replay."""

import json
from collections.abc import Sequence
from typing import Any

from cli import calls, screen

NOTIFICATION = "notification-service"


def listed(*, most: int, as_json: bool) -> int:
    found = letters(most)
    if as_json:
        print(json.dumps(found))
        return 0
    rows = [
        {
            "letter": letter["id"],
            "app": letter["app"],
            "topic": letter["topic"],
            "type": letter["type"],
            "received": screen.moment(letter["receivedAt"]),
            "replayed": screen.moment(letter["replayedAt"]) if letter["replayedAt"] else "",
        }
        for letter in found
    ]
    screen.rows(rows, as_json=False, nothing="No dead letters.")
    return 0


def replay(ids: Sequence[str], *, every: bool, as_json: bool) -> int:
    """1 when one of them could not be delivered: it stays."""
    chosen = [letter["id"] for letter in letters(1000) if not letter["replayedAt"]] if every else ids
    outcomes = [{"letter": letter_id, "outcome": deliver(letter_id)} for letter_id in chosen]
    screen.rows(outcomes, as_json=as_json, nothing="No dead letters wait.")
    return 0 if all(each["outcome"] == "ok" for each in outcomes) else 1


def deliver(letter_id: str) -> str:
    try:
        calls.call("POST", NOTIFICATION, f"/dead-letters/{letter_id}/replay")
    except calls.Refused as refused:
        return str(refused.problem.get("detail", refused))
    return "ok"


def letters(most: int) -> list[dict[str, Any]]:
    """Newest first."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(found) < most:
        page = calls.get(NOTIFICATION, "/dead-letters", cursor=cursor, pageSize=min(most, 100))
        found += page["items"]
        if (cursor := page["next"]) is None:
            break
    return found[:most]
