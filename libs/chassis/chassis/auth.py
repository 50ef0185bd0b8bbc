"""Who calls. Until part 2 brings tokens every caller is tenant `default`, subject `anonymous`, with every role."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    USER = "user"
    STAFF = "staff"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Everything a request may see and touch is bound to `tenant`; `subject` owns what it makes."""

    tenant: str
    subject: str
    roles: frozenset[Role]


ANYBODY = Caller(tenant="default", subject="anonymous", roles=frozenset(Role))


async def current_caller() -> Caller:
    """FastAPI dependency; async, or FastAPI would send it to a thread."""
    return ANYBODY
