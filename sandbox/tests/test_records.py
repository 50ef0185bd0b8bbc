"""The journal, with a kill in the middle of a line among what it meets."""

from pathlib import Path

import pytest

from sandbox.records import Journal


def lines(journal: Journal) -> list[bytes]:
    return [line for _, line in journal.replay()]


def test_lines_come_back_in_order_after_a_restart(tmp_path: Path):
    first = Journal(tmp_path / "deep" / "j")
    spans = [first.append(line) for line in (b"one", b"", b"three")]
    first.close()

    second = Journal(tmp_path / "deep" / "j")

    assert [*second.replay()] == [*zip(spans, (b"one", b"", b"three"), strict=True)]
    assert second.read(second.append(b"four")) == b"four"


@pytest.mark.parametrize("torn", [b"x", b"x" * 200_000])
@pytest.mark.parametrize("whole", [b"", b"one\n"])
def test_a_half_written_last_line_is_cut_off(tmp_path: Path, torn: bytes, whole: bytes):
    (tmp_path / "j").write_bytes(whole + torn)

    journal = Journal(tmp_path / "j")
    span = journal.append(b"next")

    assert b"".join(line + b"\n" for line in lines(journal)) == whole + b"next\n"
    assert journal.read(span) == b"next"


def test_what_is_forgotten_is_gone_from_the_disk(tmp_path: Path):
    journal = Journal(tmp_path / "j")
    span = journal.append(b"secret")

    journal.forget()

    assert (tmp_path / "j").read_bytes() == b""
    assert journal.read(span) == b""
    assert journal.read(journal.append(b"new")) == b"new"


def test_two_sandboxes_cannot_share_a_file(tmp_path: Path):
    first = Journal(tmp_path / "j")

    with pytest.raises(RuntimeError, match="in use by another sandbox"):
        Journal(tmp_path / "j")

    first.close()
    Journal(tmp_path / "j").close()
