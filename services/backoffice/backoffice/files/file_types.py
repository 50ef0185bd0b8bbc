"""Which types of file are taken, and whether a file is what its name says."""

import io
import zipfile
from pathlib import PurePath

import puremagic

from backoffice.files.domain import FileTypeNotAllowed
from chassis.problems import Invalid

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".pdf": "application/pdf",
    ".docx": DOCX,
}
HEAD = 2048  # bytes by which a type is known
TAIL = 2**18  # bytes of a .docx in which its list of contents has to be: of two thousand parts and more


def extension_of(name: str) -> str:
    """Raises FileTypeNotAllowed."""
    extension = PurePath(name).suffix.lower()
    if extension not in TYPES:
        raise FileTypeNotAllowed(" ".join(TYPES))
    return extension


def check_head(extension: str, head: bytes) -> None:
    """Raises Invalid where a file that begins so is of another type than its name says."""
    try:
        seen: set[str] = {match.mime_type for match in puremagic.magic_string(head)}
    except puremagic.PureError:  # of no type that is known
        seen = set()
    if TYPES[extension] not in seen:
        raise _not_a(extension)


def check_tail(extension: str, tail: bytes) -> None:
    """The same by how it ends. A .docx begins as every zip does; what it holds stands at its end."""
    if extension != ".docx":
        return
    try:
        names = zipfile.ZipFile(io.BytesIO(tail)).namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise _not_a(extension) from None
    has_text = "[Content_Types].xml" in names and any(name.startswith("word/document") for name in names)
    if not has_text or any(name.endswith("vbaProject.bin") for name in names):  # with macros it is a .docm
        raise _not_a(extension)


def _not_a(extension: str) -> Invalid:
    return Invalid("/file", f"The content is not that of a {extension} file.")
