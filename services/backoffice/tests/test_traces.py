"""Traces, as staff sees them, over a store that answers as the receiver or as Tempo does."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from backoffice.settings import Settings
from backoffice.traces import Tempo, traces_of
from chassis.problems import Unavailable
from stack.issuer import Issuer

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
EDGE = {
    "caller": "order-service",
    "callee": "payment-service",
    "kind": "call",
    "count": 3,
    "errors": 1,
    "p50Ms": 8.0,
    "p95Ms": 12.5,
}


def span(name: str, tenant: str = "", **attributes: Any) -> dict[str, Any]:
    place = {"span": "a", "parent": "", "peer": "", "service": "order-service", "kind": "server", "status": "ok"}
    return {**place, "name": name, "start": "2026-11-28T12:00:00+00:00", "durationMs": 5.5, "tenant": tenant} | {
        "attributes": attributes
    }


def line(name: str, tenant: str = "") -> dict[str, Any]:
    place = {"span": "a", "service": "order-service", "level": "info", "at": "2026-11-28T12:00:00+00:00"}
    return {**place, "name": name, "tenant": tenant, "attributes": {}}


class Stored:
    """What a store answers by path, and what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.status = 0
        self.asked: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        if self.status:
            return web.Response(status=self.status)
        found = self.answers.get(request.path)
        return web.json_response(found) if found is not None else web.Response(status=404)


@pytest.fixture
async def stored() -> AsyncIterator[Stored]:
    store, app = Stored(), web.Application()
    app.router.add_route("GET", "/{path:.*}", store.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    store.url = f"http://{host}:{port}"
    yield store
    await runner.cleanup()


async def test_staff_sees_a_trace_of_its_own_tenant_and_the_operators_admin_every_one(
    running, stored: Stored, issuer: Issuer
):
    mine, theirs, mixed = (f"{number:032x}" for number in (1, 2, 3))
    stored.answers = {
        f"/api/traces/{mine}": {"spans": [span("a sidecar's"), span("mine", "default")], "logs": [line("said")]},
        f"/api/traces/{theirs}": {"spans": [span("theirs", "acme")], "logs": []},
        # Whoever calls names the trace.
        f"/api/traces/{mixed}": {
            "spans": [span("a sidecar's"), span("theirs", "acme")],
            "logs": [line("me", "default")],
        },
    }
    staff = issuer.bearer("staff", sub="s-1")
    async with running(traces=f"receiver:{stored.url}", operator_tenant="default") as client:
        found = {}
        for trace in (mine, theirs, mixed):
            answer = await client.get(f"/api/v1/traces/{trace}", headers=staff)
            told = answer.json()
            found[trace] = [each["name"] for each in (*told.get("spans", ()), *told.get("logs", ()))]
        assert found == {mine: ["a sidecar's", "mine", "said"], theirs: [], mixed: ["me"]}
        refused = await client.get(f"/api/v1/traces/{theirs}", headers=staff)
        assert (refused.status_code, refused.json()["errorType"]) == (404, "trace-not-found")
        assert len((await client.get(f"/api/v1/traces/{mixed}")).json()["spans"]) == 2
        assert (await client.get(f"/api/v1/traces/{theirs}")).status_code == 200
        assert (await client.get(f"/api/v1/traces/{mine}", headers=issuer.bearer("user"))).status_code == 403
        assert (await client.get("/api/v1/traces/4bf9")).status_code == 422


async def test_the_map_is_of_the_callers_tenant(running, stored: Stored, issuer: Issuer):
    stored.answers = {"/api/edges": {"edges": [EDGE]}}
    async with running(traces=f"receiver:{stored.url}", operator_tenant="default") as client:
        answer = await client.get("/api/v1/traces/map?minutes=60", headers=issuer.bearer("staff", tenant="acme"))
        assert answer.json() == {"minutes": 60, "edges": [EDGE]}
        await client.get("/api/v1/traces/map")
        assert (await client.get("/api/v1/traces/map?minutes=0")).status_code == 422
    assert stored.asked == ["/api/edges?minutes=60&tenant=acme", "/api/edges?minutes=15&tenant="]


async def test_nothing_personal_comes_out_of_a_store_that_others_write_to(running, stored: Stored):
    told = span("mail to jo@example.com", "default", email="jo@example.com", url="/x?token=abc", order_id="o-1")
    stored.answers = {f"/api/traces/{TRACE}": {"spans": [told], "logs": []}}
    async with running(traces=f"receiver:{stored.url}") as client:
        shown = (await client.get(f"/api/v1/traces/{TRACE}")).json()["spans"][0]
    assert shown["name"] == "mail to [redacted]"
    assert shown["attributes"] == {"email": "[redacted]", "url": "/x?token=[redacted]", "order_id": "o-1"}


async def test_a_store_that_is_not_there_or_says_something_else_is_a_503(running, stored: Stored):
    for answers, status in (({}, 500), ({}, 302), ({f"/api/traces/{TRACE}": {"spans": 1}}, 0)):
        stored.answers, stored.status = answers, status
        async with running(traces=f"receiver:{stored.url}") as client:
            answer = await client.get(f"/api/v1/traces/{TRACE}")
            assert (answer.status_code, answer.json()["errorType"]) == (503, "traces-unavailable"), status
    async with running(traces="receiver:http://127.0.0.1:1") as client:
        assert (await client.get(f"/api/v1/traces/{TRACE}")).json()["errorType"] == "traces-unavailable"


async def test_where_no_store_is_named_the_answer_says_so(client):
    for path in (TRACE, "map"):
        answer = await client.get(f"/api/v1/traces/{path}")
        assert (answer.status_code, answer.json()["errorType"]) == (404, "traces-not-configured")


def test_a_setting_names_a_store_that_we_can_read():
    for wrong in ("http://tempo:3200", "jaeger:http://x", "tempo:", "tempo:tempo:3200"):
        with pytest.raises(ValueError, match="BACKOFFICE_TRACES"):
            Settings.model_validate({"BACKOFFICE_TRACES": wrong})
    assert isinstance(traces_of("tempo:http://tempo:3200/"), Tempo)


# As Tempo has it: protobuf's JSON, where 64-bit numbers are texts, ids base64 and enumerations names.
OF_TEMPO = {
    "batches": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "payment-service"}}]},
            "scopeSpans": [
                {
                    "scope": {"name": "brewline"},
                    "spans": [
                        {
                            "traceId": "S/kvNXezTaajzpKdDg5HNg==",
                            "spanId": "7uGbfsPBsXM=",
                            "parentSpanId": "AQIDBAUGBwg=",
                            "name": "charge.drive",
                            "kind": "SPAN_KIND_INTERNAL",
                            "startTimeUnixNano": "1795909724706000000",
                            "endTimeUnixNano": "1795909724718000000",
                            "attributes": [
                                {"key": "tenant", "value": {"stringValue": "default"}},
                                {"key": "tries", "value": {"intValue": "2"}},
                            ],
                            "status": {"code": "STATUS_CODE_ERROR"},
                        },
                        {
                            "spanId": "EEE19B7EC3C1B173",
                            "name": "earlier",
                            "kind": 2,
                            "startTimeUnixNano": 1795909724000000000,
                            "endTimeUnixNano": 1795909724000000000,
                            "status": {},
                        },
                    ],
                }
            ],
        }
    ]
}


async def test_tempo_is_asked_in_its_own_words(running, stored: Stored):
    stored.answers = {f"/api/traces/{TRACE}": OF_TEMPO, f"/api/traces/{'0' * 32}": {"batches": []}}
    async with running(traces=f"tempo:{stored.url}") as client:
        earlier, drive = (await client.get(f"/api/v1/traces/{TRACE}")).json()["spans"]
        assert (await client.get(f"/api/v1/traces/{'0' * 32}")).json()["errorType"] == "trace-not-found"
        assert (await client.get("/api/v1/traces/map")).json()["errorType"] == "no-map"
    assert (earlier["name"], earlier["kind"], earlier["status"]) == ("earlier", "server", "ok")
    assert (drive["service"], drive["kind"], drive["status"]) == ("payment-service", "internal", "error")
    assert (drive["durationMs"], drive["tenant"], drive["attributes"]) == (12, "default", {"tries": "2"})
    stored.answers = {f"/api/traces/{TRACE}": {"batches": [{"scopeSpans": [{"spans": [{}]}]}]}}
    with pytest.raises(Unavailable):
        await Tempo(stored.url).by_trace(TRACE)
