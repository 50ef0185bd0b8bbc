"""An export's file, written row by row in constant memory. A cell that a spreadsheet would take for a formula stays
text: CSV gets an apostrophe before it (OWASP, CSV injection), and a cell of xlsx says by itself that it is text."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import orjson
import xlsxwriter

from backoffice.domain import ExportFormat
from chassis.export_pages import Cell, Column

Rows = Iterable[Sequence[Cell]]

_BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

# What Excel holds: rows of a sheet, the header's included, and characters of a cell.
_SHEET_ROWS = 1_048_576
_CELL = 32_767


class Writer(Protocol):
    """Of one file; both may take long, and are called on a thread."""

    def write(self, rows: Rows) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """An object a line; a cell stays what it was, money a decimal string."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._names = [column.name for column in columns]
        self._file = path.open("wb")

    def write(self, rows: Rows) -> None:
        for row in rows:
            self._file.write(orjson.dumps(dict(zip(self._names, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        self._file.close()


class Csv:
    """RFC 4180, UTF-8 with a byte order mark, without which Excel takes it for another encoding."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._numbers = [column.kind == "number" for column in columns]
        self._file = path.open("w", encoding="utf-8-sig", newline="")
        self._csv = csv.writer(self._file)
        self._csv.writerow([column.name for column in columns])

    def write(self, rows: Rows) -> None:
        for row in rows:
            self._csv.writerow([_no_formula(cell, number) for cell, number in zip(row, self._numbers, strict=True)])

    def close(self) -> None:
        self._file.close()


def _no_formula(cell: Cell, number: bool) -> Cell:
    if number or not isinstance(cell, str) or not cell.startswith(_BEGINS_A_FORMULA):
        return cell
    return f"'{cell}"


class Xlsx:
    """As many sheets as the rows need, each with the header. Rows wait in temporary files beside `path`."""

    def __init__(self, path: Path, columns: Sequence[Column], *, sheet_rows: int = _SHEET_ROWS) -> None:
        options = {"constant_memory": True, "tmpdir": str(path.parent), "strings_to_urls": False}
        self._book = xlsxwriter.Workbook(str(path), options)
        self._book.use_zip64()  # else a sheet of more than 4 GB, as it is before it is packed, is refused
        self._columns = columns
        self._sheet_rows = sheet_rows
        self._begin_sheet()

    def write(self, rows: Rows) -> None:
        for row in rows:
            if self._row == self._sheet_rows:
                self._begin_sheet()
            for number, (column, cell) in enumerate(zip(self._columns, row, strict=True)):
                self._write_cell(number, column, cell)
            self._row += 1

    def close(self) -> None:
        self._book.close()

    def _begin_sheet(self) -> None:
        self._sheet = self._book.add_worksheet()
        self._sheet.freeze_panes(1, 0)
        for number, column in enumerate(self._columns):
            self._sheet.write_string(0, number, column.name)
        self._row = 1

    def _write_cell(self, number: int, column: Column, cell: Cell) -> None:
        if cell is None or cell == "":
            return
        if column.kind == "number":
            self._sheet.write_number(self._row, number, float(cell))
        else:
            text = str(cell)
            text = text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"
            self._sheet.write_string(self._row, number, text)


WRITERS: Mapping[ExportFormat, Callable[[Path, Sequence[Column]], Writer]] = {
    ExportFormat.XLSX: Xlsx,
    ExportFormat.CSV: Csv,
    ExportFormat.JSONL: JsonLines,
}
CONTENT_TYPES: Mapping[ExportFormat, str] = {
    ExportFormat.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ExportFormat.CSV: "text/csv; charset=utf-8",
    ExportFormat.JSONL: "application/jsonl",
}
