"""Traces as `make up` keeps them: the receiver beside real sidecars, read through the back office."""

from collections.abc import Iterator
from typing import Any

import pytest
from brewery import BACKOFFICE, NOTIFICATION, ORDER, PAYMENT, PUBLIC, bearer, client_of, order_body
from conftest import ROOT, specs

from stack.eventually import eventually
from stack.foundation import Foundation
from stack.local import HOST, free_port
from stack.sidecars import Stack

pytestmark = pytest.mark.more

TRACE = "4bf92f3577b34da6a3ce929d0e0e4737"


@pytest.fixture(autouse=True)
def fair_weather() -> None:
    """The stack of this test is its own."""


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("traced")
    (folder / "data").mkdir()
    under = Foundation(traces=free_port())
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("BACKOFFICE_TRACES", f"receiver:http://{HOST}:{under.traces}")
        tools = ROOT / "tools" / "bin"
        with Stack(
            apps=specs(folder / "data"),
            components=ROOT / "components",
            run_dir=folder,
            tools_bin=tools,
            foundation=under,
        ) as running:
            yield running


async def test_an_orders_trace_crosses_every_service_and_sidecar_and_has_their_log_lines(traced: Stack) -> None:
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    async with client_of(traced, ORDER, bearer(traced, "user")) as client:
        assert (await client.post(PUBLIC, json=order_body(), headers=headers)).status_code == 201

    async with client_of(traced, BACKOFFICE, bearer(traced, "staff")) as client:

        async def whole() -> dict[str, Any]:
            answer = await client.get(f"/api/v1/traces/{TRACE}")
            assert answer.status_code == 200, answer.text  # 404: nothing of it is here yet
            trace = answer.json()
            spans = {(span["service"], span["name"]) for span in trace["spans"]}
            assert {
                (ORDER, "fulfil_order.charge"),
                (ORDER, "CallLocal/payment-service/process-payment"),  # the sidecar's of the order
                (PAYMENT, "CallLocal/payment-service/process-payment"),  # and that of payment
                (PAYMENT, "charge.drive"),
                (PAYMENT, "CallLocal/payment-a/api/v1/payment"),  # to the sandbox
                (NOTIFICATION, "pubsub/orders"),
                (NOTIFICATION, "notification.send"),
            } <= spans
            assert {line["service"] for line in trace["logs"]} >= {ORDER, PAYMENT, NOTIFICATION}
            return trace

        trace = await eventually(whole)
        assert [line["at"] for line in trace["logs"]] == sorted(line["at"] for line in trace["logs"])
        assert "tok_ok" not in str(trace)

        async def drawn() -> set[tuple[str, str]]:
            answer = await client.get("/api/v1/traces/map")
            assert answer.status_code == 200, answer.text
            edges = answer.json()["edges"]
            found = {(edge["caller"], edge["callee"]) for edge in edges}
            expected = {(ORDER, PAYMENT), (PAYMENT, "payment-a"), (ORDER, NOTIFICATION), (NOTIFICATION, ORDER)}
            assert expected <= found
            return found

        await eventually(drawn)
