"""The file in a multipart/form-data body (RFC 7578), while it comes: neither is ever whole in memory."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from backoffice.files import file_types
from chassis.problems import Invalid, Problem

_LONGEST_NAME = 255  # characters that are kept


class Upload:
    """`size` in bytes and `sha256` are known when the whole of `content` has come."""

    def __init__(self, name: str, head: bytes, rest: AsyncIterator[bytes], max_bytes: int) -> None:
        self.original_name = name
        self.extension = file_types.extension_of(name)
        self.size = 0
        self._head, self._rest = head, rest
        self._max = max_bytes
        self._digest = hashlib.sha256()
        if not head:
            raise Invalid("/file", "The file is empty.")
        file_types.check_head(self.extension, head)

    @property
    def content_type(self) -> str:
        return file_types.TYPES[self.extension]

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    async def content(self) -> AsyncIterator[bytes]:
        """Raises what is wrong with it at the end at the latest, Invalid or 413: who stores it stores nothing then."""
        tail = bytearray()
        async for piece in joined(self._head, self._rest):
            self.size += len(piece)
            if self.size > self._max:
                raise _too_large(self._max)
            self._digest.update(piece)
            tail += piece
            del tail[: -file_types.TAIL]
            yield piece
        file_types.check_tail(self.extension, bytes(tail))


async def receive(request: Request, *, max_bytes: int) -> Upload:
    """The file, once its beginning has come and looks well. Raises Invalid, FileTypeNotAllowed, or Problem where the
    body is no form."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise _not_a_form()
    form = _Form(options.get(b"boundary", b""))
    pieces = form.file(request.stream())
    head = b""
    async for piece in pieces:
        head += piece
        if len(head) >= file_types.HEAD:
            break
    return Upload(form.file_name, head, pieces, max_bytes)


class _Form:
    """Of one part: a file, named `file`."""

    def __init__(self, boundary: bytes) -> None:
        self.file_name = ""
        self._parts = 0
        self._header = [b"", b""]
        self._disposition = b""
        self._arrived: list[bytes] = []
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self._add_header(0, data[start:end]),
                    "on_header_value": lambda data, start, end: self._add_header(1, data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": lambda data, start, end: self._arrived.append(data[start:end]),
                    "on_end": self._end,
                },
            )
        except FormParserError:
            raise _malformed() from None

    async def file(self, body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """The file's bytes as they come."""
        async for data in body:
            try:
                self._parser.write(data)
            except FormParserError:
                raise _malformed() from None
            arrived, self._arrived = self._arrived, []
            for piece in arrived:
                yield piece
        if not self._ended:
            raise _malformed()
        if self._parts == 0:
            raise _only_a_file()

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > 1:
            raise _only_a_file()

    def _add_header(self, part: int, data: bytes) -> None:
        self._header[part] += data

    def _end_header(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = value
        self._header = [b"", b""]

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != b"file" or b"filename" not in options:
            raise _only_a_file()
        self.file_name = _readable(options[b"filename"].decode(errors="replace"))

    def _end(self) -> None:
        self._ended = True


def _readable(name: str) -> str:
    """A name without control characters, which a database may refuse; of a long one its end, which says the type."""
    return "".join(letter for letter in name if letter.isprintable() or not letter.isascii())[-_LONGEST_NAME:]


async def joined(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for piece in rest:
        yield piece


def _only_a_file() -> Invalid:
    return Invalid("/file", "The form has to have one part, a file of this name.")


def _too_large(most: int) -> Problem:
    return Problem(
        status=413, error_type="body-too-large", title="Body too large", detail=f"A file has at most {most} bytes."
    )


def _malformed() -> Problem:
    return Problem(status=400, error_type="malformed-multipart", title="The body is not a whole multipart form")


def _not_a_form() -> Problem:
    return Problem(
        status=415,
        error_type="unsupported-media-type",
        title="Unsupported media type",
        detail="The body has to be sent as `Content-Type: multipart/form-data`, without a `Content-Encoding`.",
        headers={"Accept": "multipart/form-data", "Accept-Encoding": "identity"},
    )
