"""Who may ask for an export, for what, and who sees its job."""

import pytest

EXPORTS, JOBS = "/api/v1/exports", "/api/v1/jobs"

BAD = {
    "no kind": ({"format": "csv"}, "/kind"),
    "another kind": ({"kind": "cards"}, "/kind"),
    "another format": ({"kind": "orders", "format": "pdf"}, "/format"),
    "an unknown member": ({"kind": "orders", "colour": "red"}, "/colour"),
    "an unknown filter": ({"kind": "orders", "filters": {"customer": "c-1"}}, "/filters/customer"),
    "a status of another kind": ({"kind": "orders", "filters": {"status": "refunded"}}, "/filters/status"),
    "no status at all": ({"kind": "orders", "filters": {"status": "\u0000"}}, "/filters/status"),
    "a time without a zone": ({"kind": "orders", "filters": {"from": "2026-01-01T00:00:00"}}, "/filters/from"),
    "no time in any zone": ({"kind": "orders", "filters": {"to": "9999-12-31T23:59:59-14:00"}}, "/filters/to"),
    "an empty span": (
        {"kind": "orders", "filters": {"from": "2026-01-02T00:00:00Z", "to": "2026-01-02T00:00:00Z"}},
        "/filters/to",
    ),
    "a user with a blank": ({"kind": "orders", "userId": "a b"}, "/userId"),
}


async def test_what_could_find_nothing_is_refused_and_nothing_is_written(client, rows, sidecar):
    for name, (body, pointer) in BAD.items():
        answer = await client.post(EXPORTS, json=body)
        assert (answer.status_code, answer.json().get("errors", [{}])[0].get("pointer")) == (422, pointer), name
    assert (rows("SELECT * FROM jobs"), sidecar.workflows) == ([], {})


@pytest.mark.parametrize("role", ["user", "staff"])
async def test_only_an_admin_asks_for_exports(client, issuer, role):
    answer = await client.post(EXPORTS, json={"kind": "orders"}, headers=issuer.bearer(role))
    assert (answer.status_code, answer.json()["errorType"]) == (403, "role-missing")


async def test_a_job_is_its_users_whoever_asked_for_it(client, exports, issuer):
    job_id = await exports.ask(userId="u-1")
    user, other = issuer.bearer("user", sub="u-1"), issuer.bearer("user", sub="u-2")
    staff = issuer.bearer("staff", sub="s-1")
    stranger = issuer.bearer("admin", sub="u-1", tenant="other")

    for method in ("GET", "DELETE"):
        refused = ((other, "not-owner"), (staff, "not-owner"), (stranger, "different-tenant"))
        for who, error in refused:
            answer = await client.request(method, f"{JOBS}/{job_id}", headers=who)
            assert (answer.status_code, answer.json()["errorType"]) == (403, error)
    for job in ("01890000-0000-7000-8000-000000000000", "x"):
        answer = await client.get(f"{JOBS}/{job}", headers=user)
        assert (answer.status_code, answer.json()["errorType"]) == (404, "job-not-found")
    for who in (user, None):  # the client is an admin's
        assert (await client.get(f"{JOBS}/{job_id}", headers=who)).json()["userId"] == "u-1"
    assert (await client.delete(f"{JOBS}/{job_id}", headers=user)).json()["status"] == "Cancelled"


async def test_one_lists_ones_own_newest_first_page_by_page(client, exports):
    mine = [await exports.ask() for _ in range(3)]
    await exports.ask(userId="u-1")

    seen, cursor = [], ""
    while cursor is not None:
        page = (await client.get(JOBS, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [[job["jobId"] for job in page["items"]]]
        cursor = page["next"]
    assert seen == [mine[:0:-1], mine[:1]]
    bad = await client.get(JOBS, params={"cursor": "nonsense"})
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "?cursor")


async def test_what_has_ended_is_not_cancelled(client, exports):
    job = await exports.run(await exports.ask())
    refused = await client.delete(f"{JOBS}/{job['jobId']}")
    assert (refused.status_code, refused.json()["errorType"], refused.json()["current"]) == (
        409,
        "job-ended",
        "Completed",
    )

    twice = [await client.delete(f"{JOBS}/{job_id}") for job_id in [await exports.ask()] * 2]
    assert [answer.json()["status"] for answer in twice] == ["Cancelled", "Cancelled"]
    assert twice[0].json() == twice[1].json()
