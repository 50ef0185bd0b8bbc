"""What a run finds on a machine, and that it leaves nothing there."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from stack import components, foundation, local, processes
from stack.eventually import eventually
from stack.processes import Processes

SLEEPER = [sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('awake', flush=True); time.sleep(60)",
]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Processes]:
    run = Processes(tmp_path, logs=tmp_path / "logs", cwd=tmp_path)
    yield run
    run.end()


def awake(run: Processes, name: str) -> bool:
    return "awake" in run.log(name).read_text()


def program(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{says}'\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of our own: `path` is its PATH, `home` its home, `bin` what was built here."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/bin:/usr/bin")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def test_a_recent_daprd_on_the_path_is_used_as_it_is(machine: Path) -> None:
    found = program(machine / "path", "daprd", "1.18.0")
    program(machine / "bin", "daprd", "1.18.2")
    assert local.find_program("daprd", machine / "bin") == found


def test_what_dapr_init_installed_is_found(machine: Path) -> None:
    found = program(machine / "home" / ".dapr" / "bin", "dapr", "CLI version: 1.16.5\nRuntime version: 1.18.2")
    assert local.find_program("dapr", machine / "bin") == found


@pytest.mark.parametrize("says", ["1.17.9", "edge", ""])
def test_an_old_or_speechless_daprd_is_passed_over_for_the_built_one(machine: Path, says: str) -> None:
    program(machine / "path", "daprd", says)
    built = program(machine / "bin", "daprd", "1.18.2")
    assert local.find_program("daprd", machine / "bin") == built


def test_a_scheduler_is_only_taken_from_beside_a_daprd_that_will_do(machine: Path) -> None:
    program(machine / "path", "scheduler", "somebody else's scheduler")
    beside = program(machine / "home" / ".dapr" / "bin", "scheduler", "")
    assert local.find_program("scheduler", machine / "bin") is None
    program(machine / "home" / ".dapr" / "bin", "daprd", "1.19.1")
    local.version_of.cache_clear()
    assert local.find_program("scheduler", machine / "bin") == beside


def test_a_missing_program_is_named_with_what_gets_it(machine: Path) -> None:
    with pytest.raises(local.LocalError, match="daprd is missing: run `make setup`"):
        local.need_program("daprd", machine / "bin")


def test_free_ports_are_distinct_and_out_of_the_way_of_outgoing_connections() -> None:
    ports = [local.free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert all(port < 32_768 for port in ports)


def test_a_port_that_another_run_was_given_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    takes_one = "from stack import local; print(local.free_port(), flush=True); input()"
    command = [sys.executable, "-c", takes_one]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:  # noqa: S603  ours
        assert other.stdout is not None
        port = int(other.stdout.readline())
        monkeypatch.setattr(local.random, "sample", lambda _ports, _count: [port])
        with pytest.raises(local.LocalError, match="no free port"):
            local.free_port()
        other.communicate("\n")
    assert local.free_port() == port


def test_a_port_in_use_is_not_free() -> None:
    with socket.create_server((local.HOST, 0)) as server:
        port = server.getsockname()[1]
        assert not local.port_is_free(port)
        assert local.answers(port)
    assert local.port_is_free(port)


def test_waiting_ends_with_the_name_of_what_did_not_come() -> None:
    with pytest.raises(local.LocalError, match="the thing is not ready within 0 s"):
        local.wait_until(lambda: False, within=0, what="the thing")


def test_components_are_copied_with_this_runs_addresses_and_a_name_file_of_its_own(tmp_path: Path) -> None:
    source = tmp_path / "components"
    source.mkdir()
    store = "kind: Component\nspec: {host: localhost:6379}\n---\nkind: HTTPEndpoint\nspec: {baseUrl: localhost:8009}\n"
    (source / "store.yaml").write_text(store)
    (source / "config.yaml").write_text("kind: Configuration\nspec: {}\n")
    addresses = {"localhost:6379": "127.0.0.1:20001", "localhost:8009": "127.0.0.1:20002"}
    components.render(source, tmp_path / "run", addresses=addresses)
    documents = list(yaml.safe_load_all((tmp_path / "run" / "store.yaml").read_text()))
    assert [document["spec"] for document in documents] == [{"host": "127.0.0.1:20001"}, {"baseUrl": "127.0.0.1:20002"}]
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert str(tmp_path / "run") in config["spec"]["nameResolution"]["configuration"]["connectionString"]
    assert (source / "store.yaml").read_text() == store


def test_a_process_that_ends_too_early_is_reported_with_its_last_words(started: Processes) -> None:
    started.start("app", [sys.executable, "-c", "print('no database'); raise SystemExit(3)"])
    with pytest.raises(local.LocalError, match=r"app ended with code 3; .*app\.log ends:\nno database"):
        started.wait_for("app", lambda: False, within=20)


def test_who_waits_for_one_process_is_told_of_the_other_that_ended(started: Processes) -> None:
    started.start("sidecar", SLEEPER)
    started.start("app", [sys.executable, "-c", "raise SystemExit(4)"])
    with pytest.raises(local.LocalError, match=r"^app ended with code 4; .*app\.log is empty$"):
        started.wait_for("sidecar", lambda: False, within=20, together=["app"])


def test_the_end_finds_grandchildren_in_sessions_of_their_own(started: Processes) -> None:
    code = f"import subprocess; subprocess.Popen({SLEEPER!r}, start_new_session=True)"
    started.start("parent", [sys.executable, "-c", code])
    local.wait_until(lambda: awake(started, "parent"), within=20, what="grandchild")
    (grandchild,) = [p for p in processes.survivors(started.run) if p.pid != started.started["parent"].pid]
    started.end()
    assert not processes.is_alive(grandchild)
    assert processes.survivors(started.run) == []


def test_one_that_ignores_sigterm_is_ended_too(started: Processes) -> None:
    started.start("stubborn", STUBBORN)
    local.wait_until(lambda: awake(started, "stubborn"), within=20, what="stubborn")
    processes.end_all(processes.survivors(started.run), patience=0.2)
    assert processes.survivors(started.run) == []


def test_another_runs_processes_are_left_alone(started: Processes, tmp_path: Path) -> None:
    other = Processes(tmp_path / "other", logs=tmp_path / "other" / "logs", cwd=tmp_path)
    other.start("app", SLEEPER)
    started.start("app", SLEEPER)
    started.end()
    assert other.started["app"].poll() is None
    other.end()
    assert other.started["app"].poll() is not None


@pytest.mark.integration
def test_redis_is_found_by_where_its_data_is(started: Processes, tmp_path: Path) -> None:
    redis = local.need_program("redis-server", tmp_path)
    port = local.free_port()
    started.start("redis", foundation.redis_command(redis, port=port, data=tmp_path / "redis"))
    started.wait_for("redis", lambda: "PONG" in local.redis_says(port, "PING"), within=20)
    assert "yes" in local.redis_says(port, "CONFIG", "GET", "appendonly")
    assert [p.pid for p in processes.survivors(started.run)] == [started.started["redis"].pid]


def test_a_run_whose_owner_is_killed_is_ended_by_its_reaper(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)])  # noqa: S603
    local.wait_until(lambda: bool(processes.survivors(tmp_path)), within=20, what="the run")
    owner.kill()
    owner.wait()
    local.wait_until(lambda: not processes.survivors(tmp_path), within=20, what="its end")


def test_a_dismissed_reaper_leaves_the_run_alone(started: Processes) -> None:
    reaper = processes.Reaper(started.run)
    started.start("app", SLEEPER)
    reaper.dismiss()
    assert started.started["app"].poll() is None


def test_a_reaper_relieves_the_one_before(tmp_path: Path) -> None:
    first = processes.Reaper(tmp_path)
    second = processes.Reaper(tmp_path)
    local.wait_until(lambda: len(reapers(tmp_path)) == 1, within=5, what="the first reaper's end")
    first.dismiss()
    second.dismiss()
    assert reapers(tmp_path) == []


def reapers(run: Path) -> list[psutil.Process]:
    children = psutil.Process(os.getpid()).children()
    return [child for child in children if processes.is_alive(child) and str(run) in child.cmdline()]


async def test_eventually_returns_what_it_saw_and_raises_the_last_failure() -> None:
    begun = time.monotonic()
    assert await eventually(lambda: time.monotonic() - begun > 0.1, within=5)

    async def never() -> bool:
        assert begun < 0, "not yet"
        return True

    with pytest.raises(AssertionError, match="not yet"):
        await eventually(never, within=0.1)
    with pytest.raises(AssertionError, match=r"last seen: \[\]"):
        await eventually(list[int], within=0.1)


OWNER = f"""
import sys, time
from pathlib import Path
from stack.processes import Processes, Reaper
run = Path(sys.argv[1])
reaper = Reaper(run)
Processes(run, logs=run / "logs", cwd=run).start("app", {SLEEPER!r})
time.sleep(60)
"""
