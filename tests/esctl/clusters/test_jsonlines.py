"""Files of JSON lines: what is read is what was written whole."""

import errno
import os
from pathlib import Path

import pytest

from esctl.clusters import jsonlines


def appended(path: Path, *records: object) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for record in records:
            jsonlines.append(descriptor, record)
    finally:
        os.close(descriptor)


def test_lines_come_back_and_one_without_its_end_does_not(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    assert jsonlines.read(path) == b""
    appended(path, {"n": 1}, [2])
    path.write_bytes(path.read_bytes() + b'{"n": 3')
    assert jsonlines.read(path) == b'{"n":1}\n[2]\n'


def test_a_line_that_was_cut_short_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'{"n": 1')
    appended(path, {"n": 2})
    assert jsonlines.read(path).splitlines() == [b'{"n": 1', b'{"n":2}']


def test_what_a_full_disk_cuts_short_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write, pieces = tmp_path / "lines", os.write, iter([3, 0])

    def full(descriptor: int, data: bytes) -> int:
        room = next(pieces)
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:room])

    appended(path, {"n": 1})
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        appended(path, {"n": 2})
    assert path.read_bytes() == b'{"n":1}\n'
