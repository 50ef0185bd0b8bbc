"""One person's traces in JSON that stays."""

from collections.abc import Iterator

import orjson
import pytest
import sqlalchemy as sa
from sqlalchemy.event import listen

from chassis.erasure import Traces, erase, trace, without
from chassis.ids import now
from chassis.outbox import outbox_table

OUTBOX = outbox_table(sa.MetaData())
c = OUTBOX.c


@pytest.fixture
def conn() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    OUTBOX.metadata.create_all(engine)
    with engine.connect() as conn:
        yield conn
    engine.dispose()


def tell(conn: sa.Connection, event_id: str, person_id: str) -> None:
    data = orjson.dumps({"customerId": person_id, "name": "Ada"}).decode()
    head = {"tenant": "default", "aggregate_id": event_id, "topic": "t", "type": "t.v1", "traceparent": ""}
    conn.execute(sa.insert(OUTBOX).values(event_id=event_id, data=data, created_at=now(), **head))


def traced(conn: sa.Connection) -> Traces:
    return trace(conn, c.data, c.tenant == "default", "c-1", grows=c.seq)


def named(conn: sa.Connection) -> dict[str, str]:
    return {row.event_id: orjson.loads(row.data)["name"] for row in conn.execute(sa.select(OUTBOX))}


def test_what_comes_after_the_walk_is_erased_too_also_where_it_found_an_empty_table(conn: sa.Connection):
    nothing = traced(conn)
    tell(conn, "e-1", "c-1")
    erase(conn, nothing, "c-1")
    assert named(conn) == {"e-1": ""}

    for event_id, person_id in (("e-2", "c-1"), ("e-3", "c-10")):
        tell(conn, event_id, person_id)
    traces = traced(conn)
    assert len(traces.keys) == 1
    tell(conn, "e-4", "c-1")
    tell(conn, "e-5", "C-1")
    erase(conn, traces, "c-1")
    assert named(conn) == {"e-1": "", "e-2": "", "e-3": "Ada", "e-4": "", "e-5": "Ada"}


def test_the_transaction_that_erases_walks_through_no_table(conn: sa.Connection):
    for number in range(3):
        tell(conn, f"e-{number}", "c-1")
    traces = traced(conn)
    asked: list[str] = []
    listen(conn, "before_cursor_execute", lambda *told: asked.append(told[2]))
    plans: list[str] = []
    erase(conn, traces, "c-1")
    for query in [each for each in asked if each.startswith("SELECT")]:
        parameters = ("",) * query.count("?")
        plans += [row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", parameters)]
    assert len(plans) == 4
    assert [plan for plan in plans if not plan.startswith("SEARCH outbox USING INTEGER PRIMARY KEY")] == []


def test_an_id_is_replaced_where_ids_stand_and_no_word_that_is_spelt_like_it():
    said = {
        "notificationId": "n-1",
        "recipientId": "email",
        "channel": "email",
        "text": "Ada, your order",
        "userIds": ["email", "u-2"],
        "tags": ["email"],
        "customer": {"id": "email", "name": "Ada", "locale": "en"},
        "other": {"id": "c-2", "name": "Bo", "email": "email"},
    }
    assert without(said, "email") == said | {
        "recipientId": "erased",
        "text": "",
        "userIds": ["erased", "u-2"],
        "customer": {"id": "erased", "name": "", "locale": "en"},
    }


def test_a_status_that_is_spelt_like_the_id_makes_an_object_nobodys():
    said = {"recipientId": "c-2", "status": "sent", "text": "Bo, your order", "eventId": "sent-1"}
    assert without(said, "sent") == said
