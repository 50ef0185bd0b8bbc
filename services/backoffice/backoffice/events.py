"""Facts that the back office announces; the source of contracts/events. A changed meaning is a new type.

`resultUrl` of an export lets in whoever has it: it is for the message to its user alone, and stands in no log
(chassis.redaction knows its signature).
"""

from datetime import datetime
from typing import Any, ClassVar

from pydantic import ConfigDict, Field, JsonValue

from backoffice.domain import ExportFormat, ExportKind
from chassis.events import Event
from chassis.flags import snapshot

_SETTING: dict[str, Any] = {
    "version": 3,
    "tenant": "default",
    "key": "Features:respond-async-default",
    "value": {"percentage": 50},
}


class SettingChanged(Event):
    """`tenant` is "" where the setting concerns all. `value` is null where it is set no more, or is disabled."""

    topic: ClassVar[str] = snapshot.TOPIC
    type: ClassVar[str] = snapshot.CHANGED
    model_config = ConfigDict(json_schema_extra={"examples": [_SETTING]})

    tenant: str
    key: str
    value: JsonValue


_EXPORT: dict[str, Any] = {
    "version": 3,
    "jobId": "0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0a01",
    "userId": "a-1",
    "kind": "orders",
    "format": "xlsx",
}
_FILE = {
    "rows": 1200,
    "fileName": "export_a-1_20260131_0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0a01.xlsx",
    "resultUrl": "https://api.brewline.example/api/v1/exports/0199f7b5-…/file?expires=…&signature=…",
    "expiresAt": "2026-02-01T09:30:00Z",
}
_FAILURE = {"errorMessage": "The rows could not be read. Please ask for the export again."}


class ExportEvent(Event):
    """`userId` is whose export it is, and as a recipient who is told."""

    topic: ClassVar[str] = "exports"

    job_id: str
    user_id: str
    kind: ExportKind
    format: ExportFormat


class ExportCompleted(ExportEvent):
    """`rows` of the file; `resultUrl` holds until `expiresAt`."""

    type: ClassVar[str] = "export.completed.v1"
    model_config = ConfigDict(json_schema_extra={"examples": [_EXPORT | _FILE]})

    rows: int = Field(ge=0)
    file_name: str
    result_url: str = Field(repr=False)
    expires_at: datetime


class ExportFailed(ExportEvent):
    type: ClassVar[str] = "export.failed.v1"
    model_config = ConfigDict(json_schema_extra={"examples": [_EXPORT | _FAILURE]})

    error_message: str


EVENTS = (SettingChanged, ExportCompleted, ExportFailed)
