"""A version is never changed, at most one of a locale is published, and what is published is what is sent."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from chassis.cache import Cache
from chassis.changes.feed import Changes
from chassis.db import Database
from chassis.leases import Leases
from notification import tables
from notification.domain import ConcurrencyConflict, UnknownTemplate
from notification.templates.catalog import Catalog
from notification.templates.shipped import Source, shipped
from notification.templates.versions import (
    Head,
    Key,
    Position,
    Template,
    TemplateFilter,
    Templates,
    TemplateStatus,
    tag_of,
)
from stack.fake_sidecar import FakeSidecar

T = TypeVar("T")

OFFER = Key("Marketing", "offer", "en")
CONFIRMED = Key("OrderUpdates", "order-confirmed", "en")  # it ships
TENANT = "default"


def saying(text: str) -> Source:
    return Source(subject="Hello", text=text)


class Shelf:
    """Each call is a transaction of its own."""

    def __init__(self, db: Database, tenant: str = TENANT) -> None:
        self._db = db
        self._tenant = tenant

    async def revise(self, key: Key, text: str, version: int) -> Template:
        return await self._write(lambda own: own.revise(key, saying(text), {}, version=version, author="a-1"))

    async def publish(self, key: Key, version: int) -> Template:
        return await self._write(lambda own: own.publish(key, version))

    async def published(self, key: Key, text: str, version: int = 0) -> Template:
        made = await self.revise(key, text, version)
        return await self.publish(key, made.head.version)

    async def look(self, work: Callable[[Templates], T]) -> T:
        return await self._db.read(lambda conn: work(Templates(conn, self._tenant)))

    async def standing(self, key: Key) -> dict[int, TemplateStatus]:
        heads = await self.look(lambda own: own.versions(key, before=None, limit=100))
        return {head.version: head.status for head in heads}

    async def _write(self, work: Callable[[Templates], T]) -> T:
        return await self._db.write(lambda conn: work(Templates(conn, self._tenant)))


class Counted(Database):
    reads = 0

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        self.reads += 1
        return await super().read(work)


@pytest.fixture
def shelf(db: Database) -> Shelf:
    return Shelf(db)


def catalog_of(db: Database) -> Catalog:
    changes = Changes(db=db, table=tables.changes, leases=Leases(db, tables.leases))
    cache = Cache(sidecar=FakeSidecar(), store="statestore", changes=changes, name="templates")
    return Catalog(db, cache)


@pytest.fixture
def catalog(db: Database) -> Catalog:
    return catalog_of(db)


# --- versions ---


async def test_a_template_begins_as_a_draft_and_each_revision_is_another(shelf: Shelf) -> None:
    first = await shelf.revise(OFFER, "one", 0)
    second = await shelf.revise(OFFER, "two", 1)
    assert (first.head.version, first.head.status, first.head.author) == (1, TemplateStatus.DRAFT, "a-1")
    assert second.head.version == 2
    assert (await shelf.look(lambda own: own.get(OFFER, 1))).source.text == "one"
    assert (await shelf.look(lambda own: own.get(OFFER))).source.text == "two"


@pytest.mark.parametrize("read", [0, 1, 3])
async def test_whoever_has_not_read_the_newest_version_is_told_which_it_is(shelf: Shelf, read: int) -> None:
    await shelf.revise(OFFER, "one", 0)
    await shelf.revise(OFFER, "two", 1)
    with pytest.raises(ConcurrencyConflict) as refused:
        await shelf.revise(OFFER, "mine", read)
    assert refused.value.members == {"currentVersion": 2}


async def test_of_many_who_revise_one_version_at_once_one_wins(shelf: Shelf) -> None:
    await shelf.revise(OFFER, "one", 0)
    made = await asyncio.gather(*(shelf.revise(OFFER, f"{n}", 1) for n in range(8)), return_exceptions=True)
    assert [type(one) for one in made if isinstance(one, BaseException)] == [ConcurrencyConflict] * 7
    assert set(await shelf.standing(OFFER)) == {1, 2}


async def test_publishing_retires_the_one_before(shelf: Shelf) -> None:
    await shelf.published(OFFER, "one")
    published = await shelf.published(OFFER, "two", 1)
    assert published.head.published_at is not None
    assert await shelf.standing(OFFER) == {2: TemplateStatus.PUBLISHED, 1: TemplateStatus.RETIRED}


async def test_a_retired_version_may_come_back(shelf: Shelf) -> None:
    await shelf.published(OFFER, "one")
    await shelf.published(OFFER, "two", 1)
    await shelf.publish(OFFER, 1)
    assert await shelf.standing(OFFER) == {2: TemplateStatus.RETIRED, 1: TemplateStatus.PUBLISHED}


async def test_publishing_what_is_published_changes_nothing(shelf: Shelf) -> None:
    first = await shelf.published(OFFER, "one")
    assert await shelf.publish(OFFER, 1) == first


async def test_each_locale_has_its_own_published_version(shelf: Shelf) -> None:
    await shelf.published(OFFER, "one")
    await shelf.published(OFFER._replace(locale="pt"), "um")
    assert await shelf.standing(OFFER) == {1: TemplateStatus.PUBLISHED}


@pytest.mark.parametrize("version", [0, 2])
async def test_what_is_not_there_is_not_published(shelf: Shelf, version: int) -> None:
    await shelf.revise(OFFER, "one", 0)
    with pytest.raises(UnknownTemplate):
        await shelf.publish(OFFER, version)


async def test_a_template_of_another_tenant_is_unknown(shelf: Shelf, db: Database) -> None:
    await shelf.published(OFFER, "one")
    theirs = Shelf(db, "other")
    with pytest.raises(UnknownTemplate):
        await theirs.look(lambda own: own.get(OFFER))
    assert (await theirs.revise(OFFER, "theirs", 0)).head.version == 1


# --- those that ship ---


async def test_a_shipped_template_is_version_0_under_the_own_ones(shelf: Shelf) -> None:
    assert (await shelf.look(lambda own: own.get(CONFIRMED))).head.status == TemplateStatus.SHIPPED
    await shelf.published(CONFIRMED, "ours")
    assert (await shelf.look(lambda own: own.get(CONFIRMED))).source.text == "ours"
    ships = await shelf.look(lambda own: own.get(CONFIRMED, 0))
    assert ships.source == shipped()["OrderUpdates", "order-confirmed"]["en"]
    assert await shelf.standing(CONFIRMED) == {1: TemplateStatus.PUBLISHED, 0: TemplateStatus.SHIPPED}


async def test_pages_hold_every_version_once_and_in_order(shelf: Shelf) -> None:
    for key in (OFFER, OFFER._replace(locale="pt"), CONFIRMED, Key("alpha", "a", "en"), Key("Zeta-9", "z", "en")):
        await shelf.revise(key, "one", 0)
        await shelf.revise(key, "two", 1)
    whole = await shelf.look(lambda own: own.page(TemplateFilter(), after=None, limit=1000))
    assert len(whole) == 10 + sum(len(locales) for locales in shipped().values())
    assert whole == sorted(whole, key=lambda head: head.position)
    paged: list[Head] = []
    after: Position | None = None
    while page := await shelf.look(lambda own, after=after: own.page(TemplateFilter(), after=after, limit=3)):
        paged += page
        after = page[-1].position
    assert paged == whole


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (
            TemplateFilter(category="Marketing"),
            {1: TemplateStatus.RETIRED, 2: TemplateStatus.PUBLISHED, 3: TemplateStatus.DRAFT},
        ),
        (TemplateFilter(name="offer", status=TemplateStatus.DRAFT), {3: TemplateStatus.DRAFT}),
        (TemplateFilter(category="Marketing", status=TemplateStatus.SHIPPED), {}),
        (TemplateFilter(category="OrderUpdates", name="order-ready"), {0: TemplateStatus.SHIPPED}),
    ],
)
async def test_a_list_is_narrowed(shelf: Shelf, wanted: TemplateFilter, found: dict[int, TemplateStatus]) -> None:
    await shelf.published(OFFER, "one")
    await shelf.published(OFFER, "two", 1)
    await shelf.revise(OFFER, "three", 2)
    heads = await shelf.look(lambda own: own.page(wanted, after=None, limit=100))
    assert {head.version: head.status for head in heads} == found


@pytest.mark.parametrize(
    ("told", "kept"), [("pt_BR", "pt-BR"), ("PT-br", "pt-BR"), ("en", "en"), ("pt-XX", None), ("", None), ("xx", None)]
)
def test_a_locale_is_kept_by_its_tag(told: str, kept: str | None) -> None:
    assert tag_of(told) == kept


# --- what is sent ---


async def text_of(catalog: Catalog, key: Key, locale: str) -> tuple[str, str] | None:
    found = await catalog.find(TENANT, key.category, key.name, locale)
    return found and (found.locale, found.source.text)


async def test_the_nearest_published_locale_is_sent(shelf: Shelf, catalog: Catalog) -> None:
    await shelf.published(OFFER, "one")
    await shelf.published(OFFER._replace(locale="pt"), "um")
    await shelf.revise(OFFER._replace(locale="pt-BR"), "a draft", 0)
    assert await text_of(catalog, OFFER, "pt-BR") == ("pt", "um")
    assert await text_of(catalog, OFFER, "de") == ("en", "one")


async def test_an_own_template_stands_before_the_shipped_one_of_its_locale_only(shelf: Shelf, catalog: Catalog) -> None:
    await shelf.published(CONFIRMED, "ours")
    assert await text_of(catalog, CONFIRMED, "en-GB") == ("en", "ours")
    german = await catalog.find(TENANT, "OrderUpdates", "order-confirmed", "de")
    assert german is not None
    assert (german.locale, german.version) == ("de", 0)
    theirs = await catalog.find("other", "OrderUpdates", "order-confirmed", "en")
    assert theirs is not None
    assert theirs.version == 0


async def test_a_draft_is_not_sent(shelf: Shelf, catalog: Catalog) -> None:
    await shelf.revise(OFFER, "one", 0)
    assert await text_of(catalog, OFFER, "en") is None
    assert not await catalog.knows(TENANT, OFFER.category, OFFER.name)


async def test_a_template_in_any_language_is_known(shelf: Shelf, catalog: Catalog) -> None:
    await shelf.published(OFFER._replace(locale="pt"), "um")
    assert await text_of(catalog, OFFER, "de") is None
    assert await catalog.knows(TENANT, OFFER.category, OFFER.name)
    assert await catalog.knows(TENANT, CONFIRMED.category, CONFIRMED.name)


async def test_sends_after_the_first_ask_no_database(database_url: str) -> None:
    db = Counted(database_url)
    await db.start()
    try:
        await Shelf(db).published(OFFER, "one")
        catalog = catalog_of(db)
        first = await catalog.find(TENANT, OFFER.category, OFFER.name, "en")
        assert await catalog.find(TENANT, "OrderUpdates", "order-confirmed", "en")
        asked = db.reads
        for locale in ("en", "pt-BR", "de"):
            assert await catalog.find(TENANT, OFFER.category, OFFER.name, locale) == first
            assert await catalog.find(TENANT, "OrderUpdates", "order-confirmed", locale)
        assert db.reads == asked
    finally:
        await db.stop()


async def test_what_is_published_is_sent_next(shelf: Shelf, catalog: Catalog, db: Database) -> None:
    await shelf.published(OFFER, "one")
    assert await text_of(catalog, OFFER, "en") == ("en", "one")
    await shelf.revise(OFFER, "two", 1)

    def work(conn: sa.Connection) -> Any:
        catalog.invalidate(conn, TENANT, OFFER)
        return Templates(conn, TENANT).publish(OFFER, 2)

    await db.write(work)
    catalog.drop(TENANT, OFFER)
    assert await text_of(catalog, OFFER, "en") == ("en", "two")
