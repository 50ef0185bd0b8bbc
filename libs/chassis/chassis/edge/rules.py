"""A service's rules, matched against requests: `Book.find` says which route a request means and what that asks for."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path

from chassis.edge.auth import Access, Rules
from chassis.problems import Problem

# What every service has.
CHASSIS_RULES: Rules = {
    "GET /health": Access.STATUS,
    "GET /health/live": Access.PROBE,
    "GET /health/ready": Access.PROBE,
    "GET /docs": Access.PUBLIC,
    "GET /docs/{file}": Access.PUBLIC,
    "GET /openapi.json": Access.PUBLIC,
    "GET /api/v1/ops": Access.STAFF,
    "POST /api/v1/cache/clear": Access.ADMIN,
    "GET /api/v1/recurring": Access.OPERATOR,
    "POST /api/v1/recurring/{name}/run": Access.OPERATOR,
    "POST /job/{name}": Access.SIDECAR,
}

# What only Dapr calls is no part of a service's API.
OF_DAPR = ("/dapr/", "/events/", "/job/")

_NONE: Mapping[str, "Rule"] = {}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """`route` is the method and the path's template, which logs, metrics and limits are kept by."""

    route: str
    access: Access


class Book:
    """The rules of one service, the chassis' own included."""

    def __init__(self, rules: Rules) -> None:
        self.rules: Mapping[str, Access] = {**CHASSIS_RULES, **rules}
        self._exact: dict[str, dict[str, Rule]] = defaultdict(dict)
        by_template: dict[str, dict[str, Rule]] = defaultdict(dict)
        for route, access in self.rules.items():
            method, path = route.split(" ")
            found = by_template[path] if "{" in path else self._exact[path]
            found[method] = Rule(route=route, access=access)
        self._templates: list[tuple[re.Pattern[str], dict[str, Rule]]] = [
            (compile_path(path)[0], methods) for path, methods in by_template.items()
        ]

    def find(self, method: str, path: str) -> Rule:
        """Raises Problem: 404 where no rule has the path, 405 where one has it for other methods."""
        methods = self._methods(path)
        if (rule := methods.get(method)) is not None:
            return rule
        if path.startswith("/dapr/"):  # Dapr's own questions; whoever else asks is told nothing
            return Rule(route=f"{method} /dapr", access=Access.SIDECAR)
        if methods:
            allowed = ", ".join(sorted({*methods, *({"HEAD"} if "GET" in methods else ())}))
            raise Problem(
                status=405,
                error_type="method-not-allowed",
                title="Method Not Allowed",
                detail=f"Here is only {allowed}.",
                headers={"Allow": allowed},
            )
        raise Problem(status=404, error_type="not-found", title="Not Found", detail="There is nothing at this path.")

    def _methods(self, path: str) -> Mapping[str, Rule]:
        if path in self._exact:
            return self._exact[path]
        return next((methods for pattern, methods in self._templates if pattern.match(path)), _NONE)


def routes_of(app: FastAPI) -> set[str]:
    """Every route of an assembled service, spelled as its rule has to be; `/dapr/…` needs none."""
    return {
        f"{method} {route.path}"
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
        if method != "HEAD" and not str(route.path).startswith("/dapr/")
    }
