"""Settings over HTTP: whose they are, what may stand in them, and what is told of a change."""

import asyncio
from typing import Any

import pytest

from backoffice import settings_store
from chassis.flags.snapshot import SnapshotPage
from stack.eventually import eventually

APP = {"dapr-api-token": "app-token-of-the-tests"}
FLAG = "/api/v1/settings/Features:new-menu"
ROUTES = "/api/v1/settings/Routing:Payments"


async def put(client, path=FLAG, value: Any = True, headers=None, **more):
    return await client.put(path, json={"value": value, **more}, headers=headers)


async def test_a_setting_says_who_changed_it_when_and_how_often(client, issuer):
    first = (await put(client)).json()
    second = (await put(client, value={"percentage": 25}, headers=issuer.bearer("admin", sub="a-2"))).json()

    assert (first["version"], first["modifiedBy"], first["isEnabled"]) == (1, "a-1", True)
    assert first["createdAt"] == first["lastModified"]
    assert (second["version"], second["modifiedBy"]) == (2, "a-2")
    assert second["createdAt"] == first["createdAt"] < second["lastModified"]
    assert (await client.get(FLAG)).json() == second


async def test_every_version_is_kept_with_who_made_it(client):
    await put(client)
    await put(client, isEnabled=False)
    assert (await client.delete(FLAG)).status_code == 204
    await put(client, value=False)

    page = (await client.get(f"{FLAG}/history?limit=3")).json()
    rest = (await client.get(f"{FLAG}/history", params={"cursor": page["next"]})).json()

    versions = [*page["items"], *rest["items"]]
    assert [(each["version"], each["value"], each["isEnabled"]) for each in versions] == [
        (4, False, True),
        (3, None, False),
        (2, True, False),
        (1, True, True),
    ]
    assert {each["modifiedBy"] for each in versions} == {"a-1"}


async def test_who_has_read_another_version_overwrites_nothing(client):
    assert (await put(client, version=0)).json()["version"] == 1
    for version in (0, 2):
        refused = await put(client, value=False, version=version)
        assert (refused.status_code, refused.json()["errorType"]) == (409, "concurrency-conflict")
        assert refused.json()["currentVersion"] == 1
    assert (await put(client, value=False, version=1)).json()["version"] == 2
    assert len((await client.get(f"{FLAG}/history")).json()["items"]) == 2


async def test_of_many_who_change_the_same_version_one_does(client):
    await put(client)
    answers = await asyncio.gather(*(put(client, value=f"v{n}", version=1) for n in range(10)))

    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 9]


async def test_a_deleted_setting_is_none_and_its_versions_go_on(client):
    await put(client)
    assert (await client.delete(FLAG)).status_code == 204
    assert (await client.delete(FLAG)).json()["errorType"] == "setting-not-found"
    assert (await client.get(FLAG)).json()["errorType"] == "setting-not-found"
    assert (await client.get("/api/v1/settings")).json()["items"] == []
    assert (await put(client, version=2)).json()["currentVersion"] == 0
    again = (await put(client, version=0)).json()
    assert again["version"] == 3
    assert again["createdAt"] == again["lastModified"]


async def test_a_disabled_setting_is_passed_over_for_what_is_configured(running):
    async with running(configured={"Features:new-menu": True}) as client:
        configured = (await client.get(FLAG)).json()
        assert (configured["value"], configured["version"], configured["modifiedBy"]) == (True, 0, None)
        assert await enabled(client)

        assert (await put(client, value=False)).json()["effective"] is False
        assert not await enabled(client)

        disabled = (await put(client, value=False, isEnabled=False)).json()
        assert (disabled["value"], disabled["isEnabled"], disabled["effective"]) == (False, False, True)
        assert await enabled(client)


async def test_a_setting_is_its_tenants_own(client, issuer):
    acme = issuer.bearer("admin", tenant="acme")
    await put(client)

    assert (await client.get(FLAG, headers=acme)).status_code == 404
    assert (await client.get(f"{FLAG}/history", headers=acme)).status_code == 404
    assert (await client.delete(FLAG, headers=acme)).status_code == 404
    assert (await client.get("/api/v1/settings", headers=acme)).json()["items"] == []
    assert not await enabled(client, headers=acme)
    assert (await put(client, headers=acme)).json()["version"] == 1
    assert await enabled(client, headers=acme)


@pytest.mark.parametrize("operator", ["default", ""])
@pytest.mark.parametrize("key", ["Routing:Payments", "Recurring:HealthMonitor:Paused"])
async def test_what_concerns_all_tenants_is_the_operators_admins_alone(running, issuer, rows, key, operator):
    path = f"/api/v1/settings/{key}"
    stranger = issuer.bearer("admin", tenant="acme" if operator else "default")
    async with running(operator_tenant=operator) as client:
        for answer in [
            await put(client, path, value=[{"weights": {"a": 1}}], headers=stranger),
            await client.get(path, headers=stranger),
            await client.get(f"{path}/history", headers=stranger),
            await client.delete(path, headers=stranger),
        ]:
            assert (answer.status_code, answer.json()["errorType"]) == (403, "operator-only")
    assert rows("SELECT * FROM settings") == []


async def test_the_operator_sees_what_concerns_all_with_his_own(running, issuer):
    async with running(operator_tenant="default") as client:
        await put(client, ROUTES, value=[{"weights": {"a": 1}}])
        await put(client)
        await put(client, headers=issuer.bearer("admin", tenant="acme"))

        pages = [(await client.get("/api/v1/settings?limit=1")).json()]
        pages.append((await client.get("/api/v1/settings?limit=1", params={"cursor": pages[0]["next"]})).json())
        others = (await client.get("/api/v1/settings", headers=issuer.bearer("admin", tenant="acme"))).json()

        assert [page["items"][0]["key"] for page in pages] == ["Features:new-menu", "Routing:Payments"]
        assert [each["key"] for each in others["items"]] == ["Features:new-menu"]
        only = (await client.get("/api/v1/settings?prefix=Routing:")).json()["items"]
        assert [each["key"] for each in only] == ["Routing:Payments"]


BAD = {
    "no key": ("/api/v1/settings/9lives", {"value": True}),
    "a key too long": (f"/api/v1/settings/{'k' * 65}", {"value": True}),
    "no value": (FLAG, {}),
    "null": (FLAG, {"value": None}),
    "an unknown member": (FLAG, {"value": True, "enabled": True}),
    "too long": (FLAG, {"value": "x" * 5000}),
    "a rule with a misspelt part": (FLAG, {"value": {"percent": 5}}),
    "more than all": (FLAG, {"value": {"percentage": 101}}),
    "a tenant who is neither on nor off": (FLAG, {"value": {"tenants": {"acme": "yes"}}}),
    "routes that are no list": (ROUTES, {"value": {"weights": {"a": 1}}}),
    "no route at all": (ROUTES, {"value": []}),
    "a route without weights": (ROUTES, {"value": [{"currencies": ["USD"]}]}),
    "a version that is none": (FLAG, {"value": True, "version": -1}),
}


async def test_bad_input_is_refused_and_changes_nothing(running, rows):
    async with running(operator_tenant="default") as client:
        for what, (path, body) in BAD.items():
            refused = await client.put(path, json=body)
            assert (refused.status_code, refused.json()["errorType"]) == (422, "invalid-request"), what
        for text in ('{"value": NaN}', '{"value": 1e999}', '{"value": "\\ud800"}', '{"value": 1%s}' % ("0" * 40)):
            refused = await client.put(FLAG, content=text, headers={"content-type": "application/json"})
            assert refused.status_code == 422, text
    assert rows("SELECT * FROM settings UNION ALL SELECT 1, 1, 1, 1, 1, 1, 1, 1 FROM setting_history") == []


async def test_where_a_rule_is_wrong_the_pointer_says(client):
    refused = await put(client, value={"percentage": 101})

    assert refused.json()["errors"][0]["pointer"] == "/value/percentage"


async def test_a_tenant_has_only_so_many(client, monkeypatch):
    monkeypatch.setattr(settings_store, "_MOST", 1)
    await put(client)

    refused = await put(client, "/api/v1/settings/Another")
    assert (refused.status_code, refused.json()["errorType"]) == (409, "too-many-settings")
    assert (await put(client, value=False)).status_code == 200


async def enabled(client, name="new-menu", headers=None):
    answer = await client.get(f"/api/v1/features/{name}", headers=headers)
    assert answer.json()["name"] == name
    return answer.json()["enabled"]


async def test_a_feature_is_off_until_somebody_sets_it_and_any_user_may_ask(client, issuer):
    user = issuer.bearer("user")
    assert not await enabled(client, headers=user)

    await put(client)

    assert await enabled(client, headers=user)
    assert (await client.get("/api/v1/features/no/where")).status_code == 404
    assert (await client.get(f"/api/v1/features/{'x' * 56}")).status_code == 422


async def test_a_part_of_the_users_has_it_and_always_the_same_ones(client, issuer):
    await put(client, value={"percentage": 30})
    users = [issuer.bearer("user", sub=f"u-{n}") for n in range(100)]

    first, second = [[await enabled(client, headers=user) for user in users] for _ in range(2)]

    assert first == second
    assert 15 <= sum(first) <= 45


async def test_each_change_is_told_with_its_version_and_a_disabled_one_as_absent(client, sidecar):
    await put(client)
    await put(client, isEnabled=False)
    await client.delete(FLAG)

    await eventually(lambda: len(sidecar.published) == 3)

    told = [(event["type"], event["data"]) for event in sidecar.published]
    assert told == [
        ("setting.changed.v1", {"tenant": "default", "key": "Features:new-menu", "version": version, "value": value})
        for version, value in ((1, True), (2, None), (3, None))
    ]


async def test_the_snapshot_is_all_that_is_set_page_by_page_and_what_is_configured(running, issuer, monkeypatch):
    monkeypatch.setattr(settings_store, "_PAGE", 2)
    async with running(operator_tenant="default", configured={"Features:old": False}) as client:
        await put(client, ROUTES, value=[{"weights": {"a": 1}}])
        for tenant in ("acme", "default"):
            await put(client, headers=issuer.bearer("admin", tenant=tenant))
        await client.delete(FLAG)

        first = SnapshotPage.model_validate((await client.post("/settings-snapshot", json={}, headers=APP)).json())
        second = await client.post("/settings-snapshot", json={"after": first.next}, headers=APP)

    rest = SnapshotPage.model_validate(second.json())
    assert [(each.tenant, each.key, each.version, each.value) for each in (*first.items, *rest.items)] == [
        ("", "Routing:Payments", 1, [{"weights": {"a": 1}}]),
        ("acme", "Features:new-menu", 1, True),
        ("default", "Features:new-menu", 2, None),
    ]
    assert rest.next is None
    assert first.configured == rest.configured == {"Features:old": False}


async def test_what_was_set_is_known_after_a_restart(running):
    async with running() as client:
        await put(client)
    async with running() as client:
        assert await enabled(client)


def test_what_is_configured_must_be_usable(settings):
    known = settings.model_dump(by_alias=True) | {"app_api_token": "app-token-of-the-tests"}
    for wrong in ({"Features:x": {"percent": 3}}, {"no key!": 1}, {"Routing:Payments": 3}, {"Theme": None}):
        with pytest.raises(ValueError, match="BACKOFFICE_SETTINGS"):
            type(settings).model_validate(known | {"BACKOFFICE_SETTINGS": wrong})
