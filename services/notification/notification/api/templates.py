"""Templates: every version, those that ship included, and what they look like before they are sent."""

import asyncio
import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import Field, TypeAdapter

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.paging import Limit
from chassis.problems import FieldProblem, Invalid, invalid
from chassis.wire import RequestBody, Wire, example
from notification.api.shapes import Context, Locale, Name
from notification.services import services
from notification.templates.locales import DEFAULT
from notification.templates.render import NotRenderable, check, render
from notification.templates.sandbox import LONGEST_SOURCE, BadTemplate, compile_template
from notification.templates.shipped import PARTS, Source
from notification.templates.sms_length import measure
from notification.templates.versions import Head, Key, Position, Template, TemplateFilter, TemplateStatus
from notification.unit_of_work import UnitOfWork

Version = Annotated[int, Field(ge=0, lt=2**31 - 1)]
_Part = Annotated[str, Field(max_length=65_536)]
_Asked = Query(description="The locale itself; nothing else stands in for it.")


class SourceBody(RequestBody):
    """Jinja sources; empty where the template has none for that use. Lengths are in characters."""

    subject: _Part = ""
    text: _Part = ""
    html: Annotated[str, Field(max_length=LONGEST_SOURCE)] = ""
    sms: _Part = ""
    push: _Part = ""

    def source(self) -> Source:
        return Source(**dict(self))


class NewVersion(
    RequestBody,
    json_schema_extra=example(
        locale="en",
        source={"subject": "Hello, {{ user.name }}", "text": "Hello, {{ user.name }}."},
        sample={"user": {"name": "Ada"}},
        version=1,
    ),
):
    """`sample` is a context with everything that the template uses; `version` the one that was read, 0 for none."""

    locale: Locale
    source: SourceBody
    sample: Context
    version: Version


class NewTemplate(
    RequestBody,
    json_schema_extra=example(
        category="Account",
        name="farewell",
        locale="en",
        source={"subject": "Goodbye, {{ user.name }}", "text": "Goodbye, {{ user.name }}."},
        sample={"user": {"name": "Ada"}},
    ),
):
    category: Name
    name: Name
    locale: Locale
    source: SourceBody
    sample: Context


class Publication(RequestBody, json_schema_extra=example(locale="en", version=1)):
    locale: Locale
    version: Annotated[Version, Field(ge=1)]


class Draft(
    RequestBody,
    json_schema_extra=example(source={"subject": "Hello", "text": "Hello, {{ name }}."}, sample={"name": "Ada"}),
):
    source: SourceBody
    sample: Context
    locale: Locale = DEFAULT


class StoredDraft(RequestBody, json_schema_extra=example(locale="en", sample={"user": {"name": "Ada"}})):
    """The newest version and its own sample, unless others are named."""

    locale: Locale = DEFAULT
    version: Version | None = None
    sample: Context | None = None


class TemplateHead(Wire):
    """`version` 0 ships with the service: it has no author and no times."""

    category: str
    name: str
    locale: str
    version: int
    status: TemplateStatus
    author: str
    created_at: datetime | None
    published_at: datetime | None


class TemplateView(TemplateHead):
    source: SourceBody
    sample: dict[str, Any]


class TemplatePage(Wire):
    """`next` is the `cursor` of the following page, null on the last one."""

    items: list[TemplateHead]
    next: str | None


class SmsView(Wire):
    """`units` are septets or UTF-16 code units, by `encoding`."""

    text: str
    encoding: Literal["GSM-7", "UCS-2"]
    segments: int
    units: int


class Preview(Wire):
    """`errors` is what keeps it from being published, missing variables first of all; a part that can't be rendered is
    empty."""

    locale: str
    subject: str
    text: str
    html: str
    push: str
    sms: SmsView
    errors: list[FieldProblem]


router = Routes(
    prefix="/api/v1/templates",
    tags=["templates"],
    responses=refused({422: "invalid-request", 503: "database-unavailable"}),
)

_CONFLICT = {409: "concurrency-conflict"}


@router.get("")
async def list_templates(
    request: Request,
    *,
    category: Annotated[Name | None, Query()] = None,
    name: Annotated[Name | None, Query()] = None,
    status: TemplateStatus | None = None,
    limit: Limit = 20,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
) -> TemplatePage:
    """Every version, by category, name, locale and version."""
    caller = caller_of(request)
    units = services(request).units
    filters = TemplateFilter(category=category, name=name, status=status)
    after = None if cursor is None else _decoded(cursor)
    found = await units.read(caller.tenant, lambda unit: unit.templates.page(filters, after=after, limit=limit + 1))
    return _page(found, limit)


@router.get("/{category}/{name}", responses=refused({404: "template-not-found"}))
async def get_template(
    request: Request,
    category: Name,
    name: Name,
    locale: Annotated[Locale, _Asked] = DEFAULT,
    version: Annotated[Version | None, Query(description="0 is the one that ships")] = None,
) -> TemplateView:
    """The newest version, a draft or not, unless one is named."""
    caller = caller_of(request)
    units = services(request).units
    key = Key(category, name, locale)
    return _view(await units.read(caller.tenant, lambda unit: unit.templates.get(key, version)))


@router.get("/{category}/{name}/versions")
async def list_template_versions(
    request: Request,
    *,
    category: Name,
    name: Name,
    locale: Annotated[Locale, _Asked] = DEFAULT,
    limit: Limit = 20,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
) -> TemplatePage:
    """Newest first."""
    caller = caller_of(request)
    units = services(request).units
    key = Key(category, name, locale)
    before = None if cursor is None else _decoded(cursor).version
    found = await units.read(caller.tenant, lambda unit: unit.templates.versions(key, before=before, limit=limit + 1))
    return _page(found, limit)


@router.post("", status_code=201, responses=refused(_CONFLICT))
async def create_template(request: Request, body: NewTemplate) -> TemplateView:
    """Version 1 of a tenant's own, a draft."""
    caller = caller_of(request)
    units = services(request).units
    key, source = Key(body.category, body.name, body.locale), await _compiling(body.source)

    def work(unit: UnitOfWork) -> Template:
        return unit.templates.create(key, source, body.sample, author=caller.subject)

    return _view(await units.write(caller.tenant, work))


@router.put("/{category}/{name}", responses=refused(_CONFLICT))
async def put_template(request: Request, category: Name, name: Name, body: NewVersion) -> TemplateView:
    """A new version, a draft: what is sent stays as it is until it is published."""
    caller = caller_of(request)
    units = services(request).units
    key, source = Key(category, name, body.locale), await _compiling(body.source)

    def work(unit: UnitOfWork) -> Template:
        return unit.templates.revise(key, source, body.sample, version=body.version, author=caller.subject)

    return _view(await units.write(caller.tenant, work))


@router.post("/{category}/{name}/publish", responses=refused({404: "template-not-found"}))
async def publish_template(request: Request, category: Name, name: Name, body: Publication) -> TemplateView:
    """It is sent from now on. Refused where its sample lacks anything that it uses; an older version may come
    back."""
    caller = caller_of(request)
    made = services(request)
    key = Key(category, name, body.locale)
    # A version never changes, so what is proven here is what is published below.
    template = await made.units.read(caller.tenant, lambda unit: unit.templates.get(key, body.version))
    if errors := await asyncio.to_thread(check, template.source, template.sample, locale=body.locale):
        raise invalid(_below_source(errors))

    def work(unit: UnitOfWork) -> Template:
        made.catalog.invalidate(unit.conn, unit.tenant, key)
        return unit.templates.publish(key, body.version)

    published = await made.units.write(caller.tenant, work)
    made.catalog.drop(caller.tenant, key)
    return _view(published)


@router.post("/preview")
async def preview_source(body: Draft) -> Preview:
    """Nothing is kept."""
    source = await _compiling(body.source)
    return await asyncio.to_thread(_previewed, source, body.sample, body.locale)


@router.post("/{category}/{name}/preview", responses=refused({404: "template-not-found"}))
async def preview_template(request: Request, category: Name, name: Name, body: StoredDraft) -> Preview:
    caller = caller_of(request)
    units = services(request).units
    key = Key(category, name, body.locale)
    template = await units.read(caller.tenant, lambda unit: unit.templates.get(key, body.version))
    sample = template.sample if body.sample is None else body.sample
    return await asyncio.to_thread(_previewed, template.source, sample, body.locale)


def _previewed(source: Source, sample: Mapping[str, Any], locale: str) -> Preview:
    """Takes up to seconds of processor time: not for the loop."""
    parts: dict[str, str] = {}
    for part in PARTS:
        try:
            parts[part] = getattr(render(source, sample, locale=locale, parts=[part]), part)
        except NotRenderable:
            parts[part] = ""
    errors = _below_source(check(source, sample, locale=locale))
    length = measure(sms := parts.pop("sms"))
    text_message = SmsView(text=sms, encoding=length.encoding, segments=length.segments, units=length.units)
    return Preview(locale=locale, sms=text_message, errors=errors, **parts)


async def _compiling(body: SourceBody) -> Source:
    """Raises BadTemplate: what is no template isn't kept, not even as a draft."""
    source = body.source()
    try:
        await asyncio.to_thread(compile_template, source)
    except BadTemplate as bad:
        raise invalid(_below_source(bad.errors)) from None
    return source


def _below_source(errors: Sequence[FieldProblem]) -> list[FieldProblem]:
    return [FieldProblem(pointer=f"/source{error.pointer}", detail=error.detail) for error in errors]


def _view(template: Template) -> TemplateView:
    return TemplateView(
        **asdict(template.head), source=SourceBody(**asdict(template.source)), sample=dict(template.sample)
    )


def _page(found: Sequence[Head], limit: int) -> TemplatePage:
    """Of `limit` and one more."""
    items = [TemplateHead.model_validate(head, from_attributes=True) for head in found[:limit]]
    return TemplatePage(items=items, next=_encoded(found[limit - 1].position) if len(found) > limit else None)


_POSITION = TypeAdapter(tuple[Name, Name, Locale, Version])


def _encoded(position: Position) -> str:
    return base64.urlsafe_b64encode(_POSITION.dump_json(position)).decode().rstrip("=")


def _decoded(cursor: str) -> Position:
    try:
        return Position(*_POSITION.validate_json(base64.urlsafe_b64decode(cursor + "==")))
    except ValueError:  # a ValidationError is one, and so is whatever base64 says
        raise Invalid("?cursor", "This cursor is not one of ours.") from None
