"""What of a file is sent, and under which name (RFC 9110 13 and 14, RFC 6266)."""

import re
import unicodedata
from urllib.parse import quote

from fastapi import Request

from backoffice.files.domain import File
from chassis.problems import Problem

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_LONGEST_STEM = 100
_NOT_IN_A_NAME = '/\\:*?"<>|%'


def etag_of(file: File) -> str:
    return f'"{file.sha256}"'


def is_known(request: Request, file: File) -> bool:
    """Whether the caller has it already (`If-None-Match`)."""
    tags = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return "*" in tags or etag_of(file) in tags


def range_of(request: Request, file: File) -> tuple[int, int] | None:
    """The bytes that are asked for: the first, and the one after the last. None is all of them, also where several
    ranges, other units or nonsense are asked for. Raises Problem, 416, where the file has none of them."""
    asked = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if asked is None or request.headers.get("if-range", etag_of(file)) != etag_of(file):
        return None
    first, last = asked.groups()
    if not first and not last:
        return None
    if not first:
        begin, end = max(0, file.size - int(last)), file.size
    else:
        begin, end = int(first), min(file.size, int(last) + 1) if last else file.size
        if last and int(last) < begin:
            return None
    if begin >= end:
        raise Problem(
            status=416,
            error_type="range-not-satisfiable",
            title="Range not satisfiable",
            detail=f"The file has {file.size} bytes.",
            headers={"Content-Range": f"bytes */{file.size}"},
        )
    return begin, end


def attachment(file: File) -> str:
    """`Content-Disposition`, by the name that the file came with: without what leads elsewhere or is not seen, and with
    the extension of what it is."""
    stem, extension = file.original_name.rpartition(".")[0], "." + file.name.rpartition(".")[2]
    kept = "".join("_" if letter in _NOT_IN_A_NAME else letter for letter in stem if letter.isprintable())
    name = (kept.strip(" .")[:_LONGEST_STEM] or "file") + extension
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
