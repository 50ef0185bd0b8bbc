"""Calls to the services of this machine's run, with a token of the sandbox's issuer."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx

from cli import machine
from stack.local import LocalError

PAGE = 100


class Refused(LocalError):
    """A service said no; `problem` is its problem document."""

    def __init__(self, app_id: str, problem: dict[str, Any]) -> None:
        detail = problem.get("detail") or problem.get("title") or problem
        super().__init__(f"{app_id} says no ({problem.get('errorType', problem.get('status'))}): {detail}")
        self.problem = problem


def url(app_id: str) -> str:
    return machine.apps()[app_id].url


@cache
def client() -> httpx.Client:
    """Proxies that are set for the outside are passed by."""
    return httpx.Client(timeout=30, trust_env=False)


@cache
def bearer(role: str) -> dict[str, str]:
    """The header of a person with this role, as the sandbox gives it to anybody."""
    form = {"grant_type": "client_credentials", "client_id": f"dev-{role}", "client_secret": "any", "role": role}
    try:
        answer = client().post(f"{url('sandbox')}/oauth/token", data=form)
    except httpx.TransportError:
        raise LocalError("nothing runs here: `brewline up` starts it") from None
    return {"Authorization": f"Bearer {answer.raise_for_status().json()['access_token']}"}


def call(method: str, app_id: str, path: str, *, role: str = "admin", **more: Any) -> Any:
    """The answer's JSON. Raises `Refused`, or `LocalError` where nobody answers."""
    headers = bearer(role) | more.pop("headers", {})
    try:
        answer = client().request(method, f"{url(app_id)}/api/v1{path}", headers=headers, **more)
    except httpx.TransportError as error:
        why = f"{app_id} does not answer at {url(app_id)} ({type(error).__name__})"
        raise LocalError(f"{why}: `brewline doctor` says what is wrong") from None
    if answer.is_error:
        raise Refused(app_id, problem_of(answer))
    return answer.json() if answer.content else None


def problem_of(answer: httpx.Response) -> dict[str, Any]:
    if answer.headers.get("content-type", "").endswith("json"):
        return answer.json()
    return {"status": answer.status_code, "detail": answer.text[:200]}


def get(app_id: str, path: str, **params: Any) -> Any:
    """What is None is not asked for."""
    return call("GET", app_id, path, params={name: value for name, value in params.items() if value is not None})


def items(app_id: str, path: str, *, most: int, **params: Any) -> Iterator[dict[str, Any]]:
    """Of a paged list, page by page."""
    left, cursor = most, None
    while left > 0:
        page = get(app_id, path, cursor=cursor, limit=min(left, PAGE), **params)
        yield from page["items"]
        left, cursor = left - len(page["items"]), page["next"]
        if cursor is None:
            return
