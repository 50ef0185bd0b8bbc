"""What a file is, and the life of its row. Standard library and pydantic only."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class FileStatus(StrEnum):
    """Only a `stored` one is there for anybody. A `deleted` row goes when its content has gone."""

    UPLOADING = "uploading"
    STORED = "stored"
    DELETED = "deleted"


MOVES = {
    FileStatus.UPLOADING: frozenset({FileStatus.STORED, FileStatus.DELETED}),
    FileStatus.STORED: frozenset({FileStatus.DELETED}),
    FileStatus.DELETED: frozenset[FileStatus](),
}

CATEGORY = r"^[a-z0-9-]{1,64}$"
NAME = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[a-z]{3,4}$"
DEFAULT_CATEGORY = "general"


class File(BaseModel):
    """`name` is the id and the extension; `size` in bytes; `sha256` in hexadecimal digits. Size and digest are known of
    one that is stored."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    id: str
    tenant: str
    category: str
    name: str
    original_name: str
    content_type: str
    size: int
    sha256: str
    uploaded_by: str
    status: FileStatus
    created_at: datetime

    @property
    def path(self) -> str:
        """As callers know it."""
        return f"{self.category}/{self.name}"

    @property
    def key(self) -> str:
        """As the storage knows it."""
        return f"{FOLDER}/{self.path}"


FOLDER = "files"  # of the storage


class FileNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("There is no such file.")


class FileOfOtherTenant(Exception):
    def __init__(self) -> None:
        super().__init__("This file is another tenant's.")


class NotYourFile(Exception):
    def __init__(self) -> None:
        super().__init__("This file is somebody else's.")


class FileTypeNotAllowed(Exception):
    def __init__(self, allowed: str) -> None:
        super().__init__(f"A file's name has to end with one of {allowed}.")
