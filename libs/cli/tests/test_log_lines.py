"""Lines of every program here, in one order of time."""

from datetime import UTC, datetime
from pathlib import Path

from cli import log_lines
from cli.log_lines import LogFile

BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
AT = datetime(2026, 11, 28, 13, 57, 54, 13547, UTC)


def test_a_line_of_each_program_says_when_what_and_how_bad():
    service = '{"order_id":"o-1","event":"order.placed","level":"warning","timestamp":"2026-11-28T13:57:54.013547Z"}'
    sandbox = '{"at": "2026-11-28T13:57:54.013547+00:00", "level": "info", "event": "sandbox.started"}'
    dapr = 'time="2026-11-28T13:57:54.0135470Z" level=error msg="no \\"x\\" here" app_id=order-service'
    etcd = '{"level":"warn","ts":"2026-11-28T13:57:54.013547Z","msg":"slow"}'
    wanted = {
        service: (AT, "warning", "order.placed", "order_id=o-1"),
        sandbox: (AT, "info", "sandbox.started", ""),
        dapr: (AT, "error", 'no "x" here', ""),
        etcd: (AT, "warning", "slow", ""),
        "Traceback: what has no time of its own": (BEFORE, "info", "Traceback: what has no time of its own", ""),
        '{"cut off': (BEFORE, "info", '{"cut off', ""),
    }
    for text, told in wanted.items():
        line = log_lines.parse(text, "order-service", BEFORE)
        assert (line.at, line.level, line.words, line.facts()) == told


def test_redis_tells_this_machines_own_time():
    line = log_lines.parse("7:M 28 Nov 2026 13:57:50.641 # Server initialized", "redis", BEFORE)

    assert line.at == datetime(2026, 11, 28, 13, 57, 50, 641000).astimezone()
    assert line.words == "Server initialized"


def test_an_event_says_its_type_and_where_it_goes():
    text = '{"EventType":"call","Metadata":{"target":"payment-a/x"},"event":"integration.event"}'

    assert log_lines.parse(text, "payment-service", BEFORE).words == "call payment-a/x"


def told(second: int, event: str) -> str:
    return f'{{"event":"{event}","timestamp":"2026-11-28T13:57:{second:02}Z"}}\n'


def test_several_logs_are_one_and_a_half_written_line_is_waited_for(tmp_path: Path):
    (tmp_path / "a.log").write_text(told(1, "one") + told(3, "three"))
    (tmp_path / "b.log").write_text(told(2, "two") + told(4, "four")[:10])
    logs = log_lines.files(tmp_path)

    assert [line.words for line in log_lines.in_order(logs)] == ["one", "two", "three"]
    with (tmp_path / "b.log").open("a") as log:
        log.write(told(4, "four")[10:])
    assert [line.words for line in log_lines.in_order(logs)] == ["four"]


def test_a_log_that_is_begun_anew_is_read_from_its_beginning(tmp_path: Path):
    file = tmp_path / "a.log"
    file.write_text(told(1, "one"))
    log = LogFile(file)
    assert [line.words for line in log.more()] == ["one"]

    file.rename(tmp_path / "a.log.old")
    assert list(log.more()) == []
    file.write_text(told(2, "two") + told(3, "three"))
    assert [line.words for line in log.more()] == ["two", "three"]


def test_a_service_is_named_with_or_without_its_end_and_sidecars_only_where_asked_for():
    names = ["order-service", "order-service.sidecar", "payment-service", "redis"]

    def shown(service: str, *, sidecars: bool) -> list[str]:
        return [name for name in names if log_lines.wanted(name, service, sidecars)]

    assert shown("", sidecars=False) == ["order-service", "payment-service"]
    assert shown("", sidecars=True) == names
    assert shown("order", sidecars=True) == shown("order-service", sidecars=True) == names[:2]
    assert shown("redis", sidecars=False) == ["redis"]
