"""Who calls, and what each route asks of them.

A service's `access.py` is its table of rules; `chassis.edge.middleware` holds every request against it before anything
else runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from fastapi import Header, Request

from chassis.problems import Problem

TENANT = r"^[A-Za-z0-9._-]{1,64}$"
# Whom a service calls another for. Believed because the edge lets nobody into such a route but our own sidecar; shaped
# as the tenant in a token is.
Tenant = Annotated[str, Header(alias="X-Tenant-Id", pattern=TENANT)]


class Role(StrEnum):
    """Each may do what those before it may."""

    USER = "user"
    STAFF = "staff"
    ADMIN = "admin"


_RANK = {role: rank for rank, role in enumerate(Role)}


class Access(StrEnum):
    """What a route asks for. A route without a rule can't be reached."""

    PUBLIC = "anybody"
    GUEST = "anybody; whoever shows a token is its caller, of whatever role"
    PROBE = "anybody, unlimited: whoever watches over the process"
    STATUS = "the same; whoever shows a token may be told more"
    SIGNED = "a signature or single-use token that the route itself checks"
    SIDECAR = "our own sidecar, which proves itself by the app token"
    OWN = "a user, for what is the user's own; staff, for the whole tenant"
    USER = "any role"
    STAFF = "staff"
    ADMIN = "admin"
    OPERATOR = "an admin of the tenant that OPERATOR_TENANT names: what concerns all tenants"

    @property
    def role(self) -> Role | None:
        """The least role; None where no bearer token is asked for."""
        return _LEAST.get(self)


_LEAST = {
    Access.OWN: Role.USER,
    Access.USER: Role.USER,
    Access.STAFF: Role.STAFF,
    Access.ADMIN: Role.ADMIN,
    Access.OPERATOR: Role.ADMIN,
}

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


def require_operator(caller: Caller, operator_tenant: str) -> None:
    """Raises Problem for everybody but an admin of `operator_tenant` (`settings.operator_tenant`); empty is nobody."""
    if not (operator_tenant and caller.tenant == operator_tenant and caller.may(Role.ADMIN)):
        raise Problem(
            status=403,
            error_type="operator-only",
            title="Not allowed",
            detail="This concerns all tenants: only an admin of the operator's tenant may do it.",
        )


def caller_of(request: Request) -> Caller:
    """Of a route whose rule asks for a role."""
    return request.state.caller


def caller_if_known(request: Request) -> Caller | None:
    """Of a route that asks for no token: None where none was shown."""
    return getattr(request.state, "caller", None)


async def current_caller(request: Request) -> Caller:
    """The same as a FastAPI dependency; async, or FastAPI would send it to a thread."""
    return caller_of(request)
