"""Who calls, and what each route asks of them.

A service's `access.py` is its table of rules; `chassis.edge.middleware` holds every request against it before anything
else runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fastapi import Request

TENANT = r"^[A-Za-z0-9._-]{1,64}$"


class Role(StrEnum):
    """Each may do what those before it may."""

    USER = "user"
    STAFF = "staff"
    ADMIN = "admin"


_RANK = {role: rank for rank, role in enumerate(Role)}


class Access(StrEnum):
    """What a route asks for. A route without a rule can't be reached."""

    PUBLIC = "anybody"
    PROBE = "anybody, unlimited: whoever watches over the process"
    SIGNED = "a signature or single-use token that the route itself checks"
    SIDECAR = "our own sidecar, which proves itself by the app token"
    OWN = "a user, for what is the user's own; staff, for the whole tenant"
    USER = "any role"
    STAFF = "staff"
    ADMIN = "admin"

    @property
    def role(self) -> Role | None:
        """The least role; None where no bearer token is asked for."""
        return _LEAST.get(self)


_LEAST = {Access.OWN: Role.USER, Access.USER: Role.USER, Access.STAFF: Role.STAFF, Access.ADMIN: Role.ADMIN}

# `{"GET /api/v1/things/{thing_id}": Access.OWN, …}`: the route's method and template, as FastAPI has it.
Rules = Mapping[str, Access]


@dataclass(frozen=True, kw_only=True)
class Caller:
    """From the token's claims. Everything a request may see and touch is bound to `tenant`; `subject` owns what it
    makes."""

    tenant: str
    tenant_name: str
    subject: str
    roles: frozenset[Role]

    def may(self, role: Role) -> bool:
        return any(_RANK[mine] >= _RANK[role] for mine in self.roles)

    @property
    def owner(self) -> str | None:
        """Whose things this caller may see and touch: a user's own; None is everybody's of the tenant, for staff."""
        return None if self.may(Role.STAFF) else self.subject


def caller_of(request: Request) -> Caller:
    """Of a route whose rule asks for a role."""
    return request.state.caller


async def current_caller(request: Request) -> Caller:
    """The same as a FastAPI dependency; async, or FastAPI would send it to a thread."""
    return caller_of(request)
