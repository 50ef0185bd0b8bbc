"""Which traces are recorded: as OpenTelemetry's own variables say, and as whoever began a trace has decided."""

import pytest
from opentelemetry import propagate
from opentelemetry.sdk.resources import Resource

from chassis.telemetry import tracer_provider

PLACED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"


def recorded(parent: str = "") -> bool:
    caller = propagate.extract({"traceparent": parent} if parent else {})
    return tracer_provider(Resource({})).get_tracer("brewline").start_span("GET", caller).is_recording()


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:9")


@pytest.mark.usefixtures("exported")
def test_every_trace_is_recorded_unless_its_caller_decided_otherwise():
    assert recorded()
    assert not recorded(f"{PLACED}-00")


@pytest.mark.usefixtures("exported")
def test_a_share_of_the_traces_is_recorded_and_those_that_began_elsewhere_as_was_decided_there(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    assert not recorded()
    assert recorded(f"{PLACED}-01")


def test_nothing_is_recorded_where_nothing_leaves(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    assert not recorded(f"{PLACED}-01")
