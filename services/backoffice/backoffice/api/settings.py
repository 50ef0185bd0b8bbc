"""Settings: a tenant's own, and those that concern all tenants, which are the operator's."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Path, Query, Request, Response
from pydantic import Field, JsonValue

from backoffice.domain import SettingNotFound
from backoffice.services import Services, services
from backoffice.setting_values import Key, Value, check
from backoffice.settings_store import StoredSetting
from chassis.edge.auth import Caller, Role, caller_of, require_operator
from chassis.edge.routes import Routes, refused
from chassis.flags.memory import is_system_wide, owner
from chassis.paging import Limit
from chassis.wire import RequestBody, Wire, example

_NOT_THEIRS = {403: "operator-only"}
_NONE = _NOT_THEIRS | {404: "setting-not-found"}
_LARGEST = 2**31 - 1

SettingKey = Annotated[Key, Path(examples=["Features:respond-async-default"])]


class SettingBody(RequestBody, json_schema_extra=example(value={"percentage": 50}, isEnabled=True, version=0)):
    """A setting as a whole. `version` is the one that was read, 0 for none yet; left out, whatever there is is
    overwritten. Not for secrets: every admin, every service and the history has it."""

    value: Value
    is_enabled: bool = True
    version: Annotated[int, Field(ge=0, lt=_LARGEST)] | None = None


class SettingView(Wire):
    """`effective` is what counts: the value, unless it is disabled; else what the back office was configured with, or
    null. One that is only configured has version 0, and nobody has changed it."""

    key: str
    value: JsonValue
    is_enabled: bool
    version: int
    created_at: datetime | None
    last_modified: datetime | None
    modified_by: str | None
    effective: JsonValue


class SettingPage(Wire):
    """`next` is the `cursor` of the following page, null on the last one."""

    items: list[SettingView]
    next: str | None


class VersionView(Wire):
    """`value` is null where it was deleted."""

    version: int
    value: JsonValue
    is_enabled: bool
    modified_at: datetime
    modified_by: str


class HistoryPage(Wire):
    """`next` is the `cursor` of the following page, null on the last one."""

    items: list[VersionView]
    next: int | None


router = Routes(
    prefix="/api/v1/settings",
    tags=["settings"],
    responses=refused({422: "invalid-request", 503: "database-unavailable"}),
)


@router.get("")
async def list_settings(
    request: Request,
    prefix: Annotated[str, Query(max_length=64, pattern=r"^[A-Za-z0-9._:-]*$")] = "",
    limit: Limit = 20,
    cursor: Annotated[Key | None, Query(description="`next` of the page before")] = None,
) -> SettingPage:
    """What is set, by key; for the operator's admins also what concerns all tenants."""
    caller, made = caller_of(request), services(request)
    tenants = [caller.tenant, ""] if _is_operator(caller, made) else [caller.tenant]
    found = await made.stored_settings.page(tenants, prefix=prefix, after=cursor or "", limit=limit + 1)
    following = found[limit - 1].key if len(found) > limit else None
    return SettingPage(items=[_shown(setting, made) for setting in found[:limit]], next=following)


@router.get("/{key}", responses=refused(_NONE))
async def get_setting(request: Request, key: SettingKey) -> SettingView:
    """What is set, else what is configured."""
    made, tenant = services(request), _owner(request, key)
    if (setting := await made.stored_settings.find(tenant, key)) is not None:
        return _shown(setting, made)
    if (value := made.settings.configured.get(key)) is None:
        raise SettingNotFound(key)
    unchanged: dict[str, Any] = dict.fromkeys(("created_at", "last_modified", "modified_by"))
    return SettingView(key=key, value=value, is_enabled=True, version=0, effective=value, **unchanged)


@router.put("/{key}", responses=refused(_NOT_THEIRS | {409: "concurrency-conflict, too-many-settings"}))
async def put_setting(request: Request, key: SettingKey, body: SettingBody) -> SettingView:
    """Every replica of every service has it within two seconds."""
    made, tenant = services(request), _owner(request, key)
    check(key, body.value)
    setting = await made.stored_settings.put(
        tenant, key, body.value, is_enabled=body.is_enabled, version=body.version, by=caller_of(request)
    )
    return _shown(setting, made)


@router.delete("/{key}", status_code=204, responses=refused(_NONE))
async def delete_setting(request: Request, key: SettingKey) -> Response:
    """What is configured counts again, or else what each service takes as the default."""
    made, tenant = services(request), _owner(request, key)
    await made.stored_settings.delete(tenant, key, by=caller_of(request))
    return Response(status_code=204)


@router.get("/{key}/history", responses=refused(_NONE))
async def get_setting_history(
    request: Request,
    key: SettingKey,
    limit: Limit = 20,
    cursor: Annotated[int | None, Query(ge=1, le=_LARGEST, description="`next` of the page before")] = None,
) -> HistoryPage:
    """Every version, the newest first, also of a setting that was deleted."""
    made, tenant = services(request), _owner(request, key)
    found = await made.stored_settings.history(tenant, key, before=cursor, limit=limit + 1)
    if not found and cursor is None:
        raise SettingNotFound(key)
    following = found[limit - 1].version if len(found) > limit else None
    shown = [VersionView.model_validate(version, from_attributes=True) for version in found[:limit]]
    return HistoryPage(items=shown, next=following)


def _owner(request: Request, key: str) -> str:
    """Whose it is. Raises Problem where it concerns all tenants, and the caller is no admin of the operator's."""
    caller = caller_of(request)
    if is_system_wide(key):
        require_operator(caller, services(request).settings.operator_tenant)
    return owner(key, caller.tenant)


def _is_operator(caller: Caller, made: Services) -> bool:
    return caller.may(Role.ADMIN) and caller.tenant == made.settings.operator_tenant


def _shown(setting: StoredSetting, made: Services) -> SettingView:
    return SettingView(
        key=setting.key,
        value=setting.value,
        is_enabled=setting.is_enabled,
        version=setting.version,
        created_at=setting.created_at,
        last_modified=setting.last_modified,
        modified_by=setting.modified_by,
        effective=setting.value if setting.is_enabled else made.settings.configured.get(setting.key),
    )
