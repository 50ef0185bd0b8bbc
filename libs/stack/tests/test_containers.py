"""Which container engine is found, among programs that only play one."""

import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from stack import containers
from stack.local import LocalError

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Programs by name, each a line of shell; nothing else is on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(name: str, line: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)

    return put


def test_a_docker_without_its_daemon_is_passed_over(install: Install):
    install("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    install("podman", 'echo "$@"')

    found = containers.need()

    assert found.name == "podman"
    assert found.run("images", "--quiet") == "images --quiet"


def test_an_engine_that_is_named_is_not_replaced_by_another(install: Install):
    install("podman", "exit 0")

    with pytest.raises(LocalError, match="docker does not work here"):
        containers.need("docker")
    with pytest.raises(LocalError, match="is none of docker, podman, buildah"):
        containers.need("containerd")


def test_where_none_works_it_is_said_what_to_do(install: Install):
    install("docker", "exit 1")

    with pytest.raises(LocalError, match=r"None of docker, podman, buildah works here.*tools/setup.sh containers"):
        containers.need()


def test_what_fails_is_told_in_the_engines_words(install: Install):
    install("podman", '[ "$1" = info ] || { echo "no such image" >&2; exit 125; }')

    with pytest.raises(LocalError, match="no such image"):
        containers.need().run("pull", "nothing")


@pytest.mark.parametrize(("most", "told"), [(20_000, 20_000), (containers.OPEN_FILES, None), (-1, None)])
def test_a_container_is_given_no_more_files_than_the_machine_allows(
    install: Install, monkeypatch: pytest.MonkeyPatch, most: int, told: int | None
):
    install("podman", "exit 0")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (most, most))

    assert containers.need().limits().get("nofile") == told
