"""The journal, with a kill in the middle of a line among what it meets."""

from pathlib import Path

import pytest

from sandbox.records import Journal


def test_lines_come_back_in_order_after_a_restart(tmp_path: Path):
    first = Journal(tmp_path / "deep" / "j")
    for line in (b"one", b"", b"three"):
        first.append(line)
    first.close()

    second = Journal(tmp_path / "deep" / "j")
    second.append(b"four")

    assert [*second.replay()] == [b"one", b"", b"three", b"four"]


@pytest.mark.parametrize("torn", [b"x", b"x" * 200_000])
@pytest.mark.parametrize("whole", [b"", b"one\n"])
def test_a_half_written_last_line_is_cut_off(tmp_path: Path, torn: bytes, whole: bytes):
    (tmp_path / "j").write_bytes(whole + torn)

    journal = Journal(tmp_path / "j")
    journal.append(b"next")

    assert b"".join(line + b"\n" for line in journal.replay()) == whole + b"next\n"


def test_what_is_forgotten_is_gone_from_the_disk(tmp_path: Path):
    journal = Journal(tmp_path / "j")
    journal.append(b"secret")

    journal.forget()

    assert (tmp_path / "j").read_bytes() == b""
    journal.append(b"new")
    assert [*journal.replay()] == [b"new"]


def test_two_sandboxes_cannot_share_a_file(tmp_path: Path):
    first = Journal(tmp_path / "j")

    with pytest.raises(RuntimeError, match="in use by another sandbox"):
        Journal(tmp_path / "j")

    first.close()
    Journal(tmp_path / "j").close()
