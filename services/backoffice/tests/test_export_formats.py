"""What is in the files: every row, as it was, and nothing that a spreadsheet would calculate."""

import csv
import inspect
from decimal import Decimal
from xml.etree import ElementTree as ET
from zipfile import ZipFile

import orjson

from backoffice.exports.formats import Csv, JsonLines, Xlsx
from chassis.export_pages import Column

COLUMNS = [Column(name="id"), Column(name="text"), Column(name="total", kind="number")]
SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
FORMULAS = ["=1+1", "+12025550123", "-2", "@SUM(A1)", "\t=1", "\r=1", "\n=1"]


def sheets(path):
    """Rows of each sheet: a number as a Decimal, a text as it is; a formula would be its element."""
    with ZipFile(path) as book:
        assert "xl/sharedStrings.xml" not in book.namelist()  # texts that a book shares are kept in memory
        parts = sorted(name for name in book.namelist() if name.startswith("xl/worksheets/sheet"))
        read = [ET.fromstring(book.read(part)) for part in parts]  # noqa: S314  our own
    return [[[*map(cell, row)] for row in sheet.iter(f"{SHEET}row")] for sheet in read]


def cell(element):
    (value,) = element
    if value.tag == f"{SHEET}is":
        return "".join(value.itertext())
    return Decimal(value.text) if value.tag == f"{SHEET}v" else value.tag


def written(kind, path, rows, **options):
    writer = kind(path, COLUMNS, **options)
    for row in rows:
        writer.write([row])
    writer.close()
    return path


def test_no_cell_is_a_formula_and_numbers_stay_numbers(tmp_path):
    rows = [[str(number), text, "-12.50"] for number, text in enumerate(FORMULAS)]

    with written(Csv, tmp_path / "a.csv", rows).open(encoding="utf-8-sig", newline="") as file:
        assert [*csv.reader(file)][1:] == [[row[0], f"'{row[1]}", "-12.50"] for row in rows]
    (sheet,) = sheets(written(Xlsx, tmp_path / "a.xlsx", rows))
    assert sheet == [["id", "text", "total"], *([row[0], shown(row[1]), Decimal("-12.50")] for row in rows)]
    lines = written(JsonLines, tmp_path / "a.jsonl", rows).read_bytes().splitlines()
    assert [*map(orjson.loads, lines)] == [{"id": row[0], "text": row[1], "total": "-12.50"} for row in rows]


def shown(text):
    """XML has no carriage return of its own: a book spells it."""
    return text.replace("\r", "_x000D_")


def test_a_text_keeps_its_letters_quotes_and_lines(tmp_path):
    text = 'Ünï, "x"; <b>&amp;\nnext \u202e'
    with written(Csv, tmp_path / "a.csv", [["1", text, None]]).open(encoding="utf-8-sig", newline="") as file:
        assert [*csv.reader(file)][1] == ["1", text, ""]
    (sheet,) = sheets(written(Xlsx, tmp_path / "a.xlsx", [["1", text, None]]))
    assert sheet[1] == ["1", text]


def test_a_cell_that_is_too_long_is_cut_where_everybody_sees_it(tmp_path):
    (sheet,) = sheets(written(Xlsx, tmp_path / "a.xlsx", [["1", "x" * 32_767, 1], ["2", "x" * 32_768, 1]]))
    assert [sheet[1][1], sheet[2][1]] == ["x" * 32_767, "x" * 32_766 + "…"]


def test_rows_that_one_sheet_cannot_hold_go_on_in_the_next(tmp_path):
    rows = [[str(number), "x", number] for number in range(5)]
    head = ["id", "text", "total"]

    assert sheets(written(Xlsx, tmp_path / "a.xlsx", rows, sheet_rows=3)) == [
        [head, *rows[:2]],
        [head, *rows[2:4]],
        [head, *rows[4:]],
    ]
    assert inspect.signature(Xlsx).parameters["sheet_rows"].default == 2**20
