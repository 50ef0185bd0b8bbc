"""What leaves the process by OTLP. Imported only where something does: it takes 5 MB."""

from collections.abc import Sequence

from opentelemetry import metrics
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from chassis.redaction import RedactingExporter


def spans() -> SpanProcessor:
    return BatchSpanProcessor(RedactingExporter(OTLPSpanExporter()))


def export_metrics(resource: Resource, spelt: Sequence[str]) -> None:
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    views = [View(instrument_name=name.lower(), name=name) for name in spelt]
    metrics.set_meter_provider(MeterProvider([reader], resource=resource, views=views))


def export_logs(resource: Resource) -> None:
    provider = LoggerProvider(resource=resource)
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    set_logger_provider(provider)
