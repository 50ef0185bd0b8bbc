"""`dapr.yaml`, which the dapr CLI reads, and the command line that it makes of an entry: for who starts a sidecar
without the CLI."""

import re
from collections.abc import Mapping
from typing import Any, cast

import yaml

# What the CLI calls otherwise than daprd does.
_FLAGS = {"configFilePath": "config", "apiListenAddresses": "dapr-listen-addresses"}
# An app's, or the CLI's own.
_NO_FLAGS = {"appDirPath", "command", "env", "appLogDestination", "daprdLogDestination"}
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def parse(text: str) -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load(text))


def sidecar_flags(entry: Mapping[str, Any]) -> list[str]:
    """daprd's flags for the keys of a run file, `common`'s and an app's. It refuses itself what it doesn't know."""
    flags: list[str] = []
    for key, value in entry.items():
        if key in _NO_FLAGS or value is False:
            continue
        flag = f"--{_FLAGS.get(key) or _WORDS.sub('-', key).lower()}"
        values = cast("list[Any]", value) if isinstance(value, list) else [value]
        for each in values:
            flags += [flag] if each is True else [flag, str(each)]
    return flags
