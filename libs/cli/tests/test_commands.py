"""The command line as it is typed, where nothing runs."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from cli import load, new_service, orders
from cli.main import app
from stack import local

BREWLINE = Path(sys.executable).with_name("brewline")


def every(command: Any, name: str = "") -> dict[str, Any]:
    below = getattr(command, "commands", {})
    return {name: command} | {
        path: each for word in below for path, each in every(below[word], f"{name} {word}").items()
    }


def test_every_command_says_what_it_does_and_those_that_print_data_have_json():
    commands = every(typer.main.get_command(app))
    silent = {"", " new", " new service", " run", " up", " down", " token"}

    assert [path for path, command in commands.items() if not command.help] == []
    assert {path for path, one in commands.items() if "as_json" not in {each.name for each in one.params}} == silent
    for path in commands:
        assert CliRunner().invoke(app, [*path.split(), "--help"]).exit_code == 0


def test_where_nothing_runs_that_is_said_in_one_line_without_colour(tmp_path: Path):
    ports = {"SANDBOX_PORT": str(local.free_port()), "ORDER_PORT": str(local.free_port())}
    env = os.environ | ports | {"BREWLINE_HOME": str(tmp_path)}

    done = subprocess.run([BREWLINE, "orders"], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Brewline: nothing runs here: `brewline up` starts it\n"


def test_completion_knows_the_commands_and_nothing_that_is_slow_to_load():
    line = {"_BREWLINE_COMPLETE": "complete_bash", "COMP_WORDS": "brewline de", "COMP_CWORD": "1"}
    script = """
import atexit, sys
atexit.register(lambda: print(*{"httpx", "yaml", "psutil", "copier", "sqlalchemy"} & {*sys.modules}))
from cli.main import main
sys.argv = ["brewline"]
main()"""

    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | line, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["dead-letters"]


def test_logs_are_followed_until_ctrl_c_which_says_nothing(tmp_path: Path):
    log = tmp_path / "var" / "logs" / "order-service.log"
    log.parent.mkdir(parents=True)
    log.write_text("one\n")
    env = os.environ | {"BREWLINE_HOME": str(tmp_path)}
    pipe = subprocess.PIPE
    with subprocess.Popen([BREWLINE, "logs", "--follow"], env=env, stdout=pipe, stderr=pipe, text=True) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        lines = [following.stdout.readline()]
        with log.open("a") as more:
            more.write("two\n")
        lines.append(following.stdout.readline())
        following.send_signal(signal.SIGINT)
        assert (following.wait(timeout=10), following.stderr.read()) == (130, "")
    assert [line.split()[1:] for line in lines] == [["order-service", "one"], ["order-service", "two"]]

    unknown = subprocess.run([BREWLINE, "logs", "-s", "oder"], env=env, capture_output=True, text=True, check=False)
    assert (unknown.returncode, "there are order-service" in unknown.stderr) == (1, True)


def test_a_service_is_made_by_no_name_that_is_taken_or_can_not_be_imported(tmp_path: Path):
    apps = [{"appID": "order-service", "appPort": 8001}, {"appID": "sandbox", "appPort": 8002}]
    (tmp_path / "services" / "loyalty").mkdir(parents=True)

    for name in ("order", "sandbox", "loyalty", "tests", "chassis", "yaml", "json", "class", "a-b", "Points", "7up"):
        with pytest.raises(local.LocalError):
            new_service.check(tmp_path, name, apps)
    new_service.check(tmp_path, "points", apps)
    assert new_service.next_free(apps, "appPort") == 8003


def test_what_can_not_be_meant_is_refused_with_2():
    for words in (["replay"], ["replay", "l-1", "--all"], ["load", "--rate", "0"], ["orders", "--limit", "none"]):
        assert CliRunner().invoke(app, words).exit_code == 2


def test_a_stream_is_read_event_by_event_and_its_heartbeat_passed_over():
    lines = [": ping", "", "id: 7", "event: order.confirmed", 'data: {"status": "confirmed"}', "", "id: 8"]

    assert list(orders.events(iter(lines))) == [
        {"id": "7", "event": "order.confirmed", "data": {"status": "confirmed"}}
    ]


def test_a_load_is_summed_up_by_percentiles_and_outcomes():
    measured = load.Measured(took=[number / 1000 for number in range(1, 101)])
    measured.ended.update({"201 confirmed": 99, "402 payment-declined": 1})

    summary = measured.summary(10)

    assert (summary["orders"], summary["per_second"], summary["402 payment-declined"]) == (100, 10, 1)
    assert [summary[f"p{share}_ms"] for share in (50, 90, 99, 100)] == [51, 91, 100, 100]
    assert load.Measured().summary(1)["p50_ms"] is None
