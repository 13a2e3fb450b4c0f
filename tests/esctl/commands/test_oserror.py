"""What is said of a refusal of the operating system: the path, the reason, what helps."""

import errno
import os
import pwd
from pathlib import Path

import pytest

from esctl import oserror
from esctl.errors import InvalidArgument, MachineRefused, StateUnreadable
from tests.esctl.commands.test_commands import Run


def refusal(number: int, path: Path | None = None) -> OSError:
    return OSError(number, os.strerror(number), *([str(path)] if path is not None else []))


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EMFILE, errno.ENOTDIR])
def test_a_refusal_names_path_reason_and_what_helps(tmp_path: Path, number: int) -> None:
    path = tmp_path / "two words"
    told = oserror.declared(refusal(number, path))
    assert isinstance(told, MachineRefused)
    assert str(told) == f"{path} cannot be used: {os.strerror(number)}"
    assert told.next_step
    if number in (errno.EACCES, errno.ENOSPC):
        assert str(tmp_path) in told.next_step


def test_an_error_that_no_machine_explains_stays_a_bug() -> None:
    assert oserror.declared(refusal(errno.EBADF)) is None
    assert oserror.declared(refusal(errno.ENOENT)) is None
    assert oserror.declared(UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")) is None


def test_bytes_that_are_no_text_are_named() -> None:
    error = UnicodeEncodeError("utf-8", 'dir = "/srv/caf\udce9"', 15, 16, "surrogates not allowed")
    told = oserror.declared(error)
    assert isinstance(told, InvalidArgument)
    assert str(told).startswith(r"/srv/caf\xe9 is not UTF-8")


def test_a_declared_error_with_a_refusal_behind_it_gets_its_next_step(tmp_path: Path) -> None:
    error = StateUnreadable("cluster.json cannot be used")
    error.__cause__ = refusal(errno.EACCES, tmp_path)
    assert "chmod" in oserror.with_next_step(error).next_step
    better = StateUnreadable("cluster.json cannot be used", next_step="something better")
    better.__cause__ = refusal(errno.EACCES, tmp_path)
    assert oserror.with_next_step(better).next_step == "something better"


def test_somebody_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_uid: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    run = Run("cluster", "ls", "-o", "json")
    assert run.document["errors"][0]["code"] == "ES4106"
    assert "HOME" in run.document["errors"][0]["next"]


@pytest.mark.parametrize("number", ["inf", "nan", "99999999999999999999"])
def test_a_number_that_no_command_can_mean_is_a_usage_error(number: str) -> None:
    for words in (["produce", "-", "--rate", number], ["consume", "--max", number]):
        run = Run(*words, "-o", "json")
        assert run.code == 2
        assert run.document["errors"][0]["code"] == "ES4000"


def test_a_pipe_is_no_backup(tmp_path: Path) -> None:
    pipe = tmp_path / "a pipe"
    os.mkfifo(pipe)
    for words in (["verify", str(pipe)], ["restore", str(pipe), "--name", "new"]):
        run = Run("backup", *words, "-o", "json")
        assert run.code == 2
        assert "is no regular file" in run.document["errors"][0]["message"]
