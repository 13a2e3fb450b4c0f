"""Processes that outlive whoever starts them: when they are there, and what is said when they are not."""

import os
from pathlib import Path

import pytest

from esctl.clusters import detached
from esctl.clusters.backends import pidfile
from esctl.clusters.detached import Starting
from esctl.errors import MachineRefused


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a module that such a process can run."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "started.py"


def test_a_process_that_says_so_is_there_and_has_a_session_of_its_own(module: Path, tmp_path: Path) -> None:
    told = tmp_path / "session"
    module.write_text(
        "import os, pathlib, sys\n"
        "from esctl.clusters.detached import say_ready\n"
        "pathlib.Path(sys.argv[1]).write_text(f'{os.getpid()} {os.getsid(0)} {sys.stdin.read()!r}')\n"
        "say_ready()\n"
        "print('nobody listens any more')\n"
    )
    Starting("it", "started", str(told)).wait_ready()
    pid, session, read = told.read_text().split()
    assert (session, read) == (pid, "''")
    assert int(session) != os.getsid(0)
    os.waitpid(int(pid), 0)


def test_the_last_word_of_a_process_that_ends_at_once_is_the_reason(module: Path) -> None:
    module.write_text("raise SystemExit('first\\nthere is no room')\n")
    with pytest.raises(MachineRefused, match=r"^the load ended at once: there is no room$"):
        Starting("the load", "started").wait_ready()
    module.write_text("")
    with pytest.raises(MachineRefused, match="it said nothing"):
        Starting("the load", "started").wait_ready()


def test_a_program_that_cannot_be_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(MachineRefused, match="the load could not be started: No such file"):
        Starting("the load", "started")


def test_a_process_writes_where_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    pid = detached.spawn(["/bin/sh", "-c", "echo said; echo complained >&2"], log, log)
    os.close(log)
    os.waitpid(pid, 0)
    assert path.read_text() == "said\ncomplained\n"
    assert pidfile.facts_of(pid) is None
