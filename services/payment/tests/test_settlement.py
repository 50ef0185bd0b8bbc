"""The settlement report of a day: exactly what moved, whose it is, and nothing a spreadsheet would run."""

import csv
import io
import zipfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from xml.etree import ElementTree as ET

import pytest

from chassis.ids import new_id, now
from payment.tables import payments, refunds

DAY = date(2026, 3, 1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEADER = ["at", "provider", "kind", "orderId", "paymentId", "idempotencyKey", "transactionId", "amount", "currency"]
NAMESPACE = {"x": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}


def payment(**values):
    paid = {"id": new_id(), "tenant": "default", "order_id": "o-1", "amount": 900, "currency": "USD", "provider": "a"}
    paid |= {"method": "credit_card", "status": "succeeded", "transaction_id": "t-1", "traceparent": ""}
    paid |= {"created_at": NOON, "processed_at": NOON} | values
    return {"key": f"{paid['id']}:charge"} | paid


def refund(of, **values):
    given = {"id": new_id(), "tenant": of["tenant"], "payment_id": of["id"], "amount": 400, "status": "succeeded"}
    given |= {"transaction_id": "r-1", "traceparent": "", "created_at": NOON, "processed_at": NOON} | values
    return {"key": f"{of['id']}:refund"} | given


@pytest.fixture
def put(sql):
    def insert(*rows):
        for row in rows:
            sql((refunds if "payment_id" in row else payments).insert().values(row))

    return insert


@pytest.fixture
def report(desk):
    async def read(day=DAY, **who):
        answer = await desk.ask("GET", f"settlements/{day}", **who)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
        head, *lines = csv.reader(io.StringIO(answer.text, newline=""))
        assert head == HEADER
        return [dict(zip(HEADER, line, strict=True)) for line in lines]

    return read


@pytest.fixture
def book(desk):
    async def read(day=DAY, **who):
        answer = await desk.ask("GET", f"settlements/{day}?format=xlsx", **who)
        assert answer.status_code == 200
        assert "spreadsheetml" in answer.headers["content-type"]
        assert answer.headers["content-disposition"] == f'attachment; filename="settlement-{day}.xlsx"'
        return sheets(answer.content)

    return read


def sheets(content: bytes) -> tuple[list[list[str]], list[list[str]]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        named, *found = (
            ET.fromstring(archive.read(f"xl/{name}.xml"))  # noqa: S314  our own
            for name in ("workbook", "worksheets/sheet1", "worksheets/sheet2")
        )
    assert [one.get("name") for one in named.iterfind(".//x:sheet", NAMESPACE)] == ["lines", "sums"]
    assert not [formula for sheet in found for formula in sheet.iterfind(".//x:f", NAMESPACE)]
    rows = [
        [[cell(one) for one in row.iterfind("x:c", NAMESPACE)] for row in sheet.iterfind(".//x:row", NAMESPACE)]
        for sheet in found
    ]
    return rows[0], rows[1]


def cell(element: ET.Element) -> str:
    text = element.find("x:is/x:t", NAMESPACE)
    return (element.findtext("x:v", "", NAMESPACE) if text is None else text.text) or ""


async def test_it_has_exactly_the_money_that_moved_on_that_day(put, report, book):
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    tick = timedelta(microseconds=1)
    first, last = (
        payment(processed_at=midnight, order_id="first"),
        payment(processed_at=midnight + timedelta(days=1) - tick),
    )
    partly = payment(
        status="partially_refunded", amount=1234, currency="KWD", provider="b", processed_at=NOON - timedelta(days=9)
    )
    given = refund(partly)
    moved = [first, given, last]
    put(
        first, last, partly, given,
        payment(processed_at=midnight - tick),
        payment(processed_at=midnight + timedelta(days=1)),
        payment(status="declined", transaction_id=None),
        payment(status="failed", transaction_id=None),
        payment(status="processing", processed_at=None),
        refund(partly, key="r-2", status="failed"),
        refund(partly, key="r-3", status="processing", processed_at=None),
        payment(tenant="other"),
    )  # fmt: skip

    lines = await report()
    assert [line["idempotencyKey"] for line in lines] == [row["key"] for row in moved]
    assert lines[1] == {
        "at": NOON.isoformat(),
        "provider": "b",
        "kind": "refund",
        "orderId": "o-1",
        "paymentId": partly["id"],
        "idempotencyKey": given["key"],
        "transactionId": "r-1",
        "amount": "0.400",
        "currency": "KWD",
    }
    (head, *rows), sums = await book()
    assert (head, rows) == (HEADER, [list(line.values()) for line in lines])
    assert sums == [
        ["provider", "kind", "currency", "count", "amount"],
        ["a", "charge", "USD", "2", "18.00"],
        ["b", "refund", "KWD", "1", "0.400"],
    ]


async def test_tenants_are_apart_and_only_administrators_read_it(put, report, desk):
    put(payment(tenant="other", order_id="theirs"), payment(order_id="ours"))

    assert [line["orderId"] for line in await report()] == ["ours"]
    assert [line["orderId"] for line in await report(tenant="other")] == ["theirs"]
    assert (await desk.ask("GET", f"settlements/{DAY}", role="staff")).status_code == 403


async def test_a_refund_of_the_api_is_named_as_the_provider_knows_it(put, report):
    paid = payment(processed_at=NOON - timedelta(days=9))
    given = refund(paid, key="api:hidden")
    put(paid, given)

    assert [line["idempotencyKey"] for line in await report()] == [given["id"]]


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r"])
async def test_no_text_becomes_a_formula(put, report, book, begins):
    put(payment(order_id=f'{begins}HYPERLINK("http://x","y"),z'))

    (line,) = await report()
    assert line["orderId"] == f'\'{begins}HYPERLINK("http://x","y"),z'
    assert line["amount"] == "9.00"
    (_, row), _ = await book()  # `sheets` asserts that there is no formula
    assert row[3].endswith('HYPERLINK("http://x","y"),z')


async def test_more_than_one_page_of_rows_loses_none_and_doubles_none(sql, report, book):
    """Many at the same moment, so that pages break between rows of one time."""
    rows = [payment(processed_at=NOON + timedelta(seconds=number // 400), amount=number + 1) for number in range(1203)]
    sql(payments.insert().values(rows[:600]))
    sql(payments.insert().values(rows[600:]))

    lines = await report()
    assert sorted(line["paymentId"] for line in lines) == sorted(row["id"] for row in rows)
    total = sum(Decimal(line["amount"]) for line in lines)
    assert total == Decimal(sum(range(1, 1204))) / 100
    found, sums = await book()
    assert len(found) == 1204
    assert sums[1] == ["a", "charge", "USD", "1203", str(total)]


async def test_what_was_charged_and_given_back_today_is_in_todays(desk, report, provider):
    paid = (await desk.pay()).json()["paymentId"]
    given = await desk.give_back(paid, {"amount": "4.00"})
    provider.next_posts.append("decline")
    await desk.pay(key="o-2:charge", orderId="o-2")

    lines = await report(now().date())
    assert [(line["kind"], line["amount"], line["transactionId"]) for line in lines] == [
        ("charge", "9.00", "tx-o-1:charge"),
        ("refund", "4.00", f"tx-{given.json()['id']}"),
    ]


async def test_a_day_without_money_has_its_head_alone(report, book):
    assert await report() == []
    assert await book() == ([HEADER], [["provider", "kind", "currency", "count", "amount"]])


@pytest.mark.parametrize("path", ["9999-12-31", "2026-02-30", "yesterday", "2026-03-01?format=pdf"])
async def test_what_is_no_day_or_format_is_a_422(desk, path):
    answer = await desk.ask("GET", f"settlements/{path}")

    assert (answer.status_code, answer.json()["errorType"]) == (422, "invalid-request")


async def test_the_first_and_the_last_day_are_days(report):
    assert await report(date(1, 1, 1)) == await report(date(9999, 12, 30)) == []
