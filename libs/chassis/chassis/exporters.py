"""What leaves the process by OTLP. Imported only where something does: it takes 5 MB."""

import logging

from opentelemetry import metrics
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from chassis.redaction import RedactingExporter


def spans() -> SpanProcessor:
    return BatchSpanProcessor(RedactingExporter(OTLPSpanExporter()))


def export_metrics(resource: Resource) -> None:
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource=resource))


def export_logs(resource: Resource, records: logging.Logger) -> None:
    """What is logged to `records`."""
    provider = LoggerProvider(resource=resource)
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    set_logger_provider(provider)
    records.addHandler(LoggingHandler(logger_provider=provider))
    records.setLevel(logging.INFO)
