"""The settlement report of a day: a line for each charge and refund that a provider's ledger has too."""

import csv
import io
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import IO, Any

import sqlalchemy as sa

from payment.currencies import in_major_units
from payment.domain import provider_key

COLUMNS = (
    "at", "provider", "kind", "orderId", "paymentId", "idempotencyKey", "transactionId", "amount", "currency",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_SPOOLED = 1_000_000  # bytes in memory; a longer report goes to disk


def line(entry: sa.RowMapping) -> dict[str, Any]:
    """`amount` is a Decimal in major units, of a refund too; `kind` says the direction."""
    return {
        "at": entry["at"].isoformat(),
        "provider": entry["provider"],
        "kind": entry["kind"],
        "orderId": entry["order_id"],
        "paymentId": entry["payment_id"],
        "idempotencyKey": provider_key(entry["key"], entry["id"], entry["begun"]),
        "transactionId": entry["transaction_id"],
        "amount": in_major_units(entry["amount"], entry["currency"]),
        "currency": entry["currency"],
    }


async def as_csv(entries: AsyncIterator[sa.RowMapping]) -> AsyncIterator[bytes]:
    """RFC 4180, a chunk per line."""
    yield _csv_line(COLUMNS)
    async for entry in entries:
        yield _csv_line([_cell(value) for value in line(entry).values()])


def _csv_line(cells: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """A text that a spreadsheet would take for a formula is quoted; an amount is ours, and a number."""
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) and not isinstance(value, Decimal) else text


async def as_xlsx(entries: AsyncIterator[sa.RowMapping]) -> AsyncIterator[bytes]:
    """Two sheets: the lines, and their sums by provider, kind and currency. Written row by row to a temporary file."""
    with tempfile.SpooledTemporaryFile(_SPOOLED) as made:
        await _write_xlsx(made, entries)
        made.seek(0)
        for chunk in _chunks(made):
            yield chunk


async def _write_xlsx(target: IO[bytes], entries: AsyncIterator[sa.RowMapping]) -> None:
    import xlsxwriter  # noqa: PLC0415  4 MB for a report a day

    # `strings_to_formulas` off: no text of a customer's becomes a formula. Amounts stay exact as texts in `lines`.
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(target, options) as book:
        lines, sums = book.add_worksheet("lines"), book.add_worksheet("sums")
        lines.write_row(0, 0, COLUMNS)
        totals: dict[tuple[str, str, str], list[Any]] = defaultdict(lambda: [0, Decimal(0)])
        row = 0
        async for entry in entries:
            row += 1
            fields = line(entry)
            lines.write_row(row, 0, [str(value) for value in fields.values()])
            total = totals[fields["provider"], fields["kind"], fields["currency"]]
            total[0], total[1] = total[0] + 1, total[1] + fields["amount"]
        sums.write_row(0, 0, ("provider", "kind", "currency", "count", "amount"))
        for index, (group, (count, amount)) in enumerate(sorted(totals.items()), start=1):
            sums.write_row(index, 0, [*group, count, str(amount)])


def _chunks(file: IO[bytes], size: int = 65_536) -> Iterator[bytes]:
    while chunk := file.read(size):
        yield chunk
