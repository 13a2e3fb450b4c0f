"""Every command on machines that refuse: never "a bug", always what helps.

The commands are read from the program, so a new one is covered by itself: in one situation of each kind, and
the next command in the next one; with WHOLE_TABLE=1 in the environment, every command in every situation. A
refusal comes from an audit hook of the interpreter, at the call that would meet it. Time jumps, no process
starts, no node answers.
"""

import errno
import functools
import io
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from esctl.cli import auditlog
from esctl.clusters import state
from esctl.exits import Exit
from esctl.main import app
from esctl.ui import streams
from tests.esctl.cli.test_auditlog import COMMANDS
from tests.esctl.conftest import plan

ENDLESS = {"top": ["--once"]}
"""What keeps a command from going on for ever."""
WAITS = {"timeout", "wait"}
"""Options that say how long a command waits for nodes that never come."""
KNOWN_CODES = {int(code) for code in Exit} | {3}
"""And 3: `status metrics --format nagios` has codes of its own."""
HUGE = ["inf", "nan", "99999999999999999999", "9223372036854775807"]
PARSED = {"drop", "reorder", "delay", "jitter", "rate", "lease", "for_", "by", "drift"}
"""Texts that hold a number with its unit."""


@dataclass
class Refusal:
    """What the machine refuses for now; None: nothing."""

    number: int = 0
    below: str = ""
    writing_only: bool = False

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Called by the interpreter before it opens, makes or moves a file."""
        if not self.number or event not in ("open", "os.mkdir", "os.listdir", "os.scandir", "os.rename"):
            return
        path = arguments[0]
        if not isinstance(path, str | bytes | os.PathLike) or not os.fspath(path):
            return
        text = os.fsdecode(path)
        changes = event in ("os.mkdir", "os.rename") or (event == "open" and _writes(*arguments[1:]))
        if text.startswith(self.below) and (changes or not self.writing_only):
            raise OSError(self.number, os.strerror(self.number), text)


def _writes(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return not mode.startswith("r") or "+" in mode
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


REFUSAL = Refusal()
sys.addaudithook(REFUSAL.hook)


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Sleeps take no time, no process is started, and what commands write by default is in a corner."""
    clock = functools.partial(trio.testing.MockClock, autojump_threshold=0)
    real = trio.run
    monkeypatch.setattr(trio, "run", lambda work, *a, **more: real(work, *a, clock=clock(), **more))

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    state.add(plan("local", tmp_path / "local"))
    yield
    REFUSAL.number = 0


@dataclass(frozen=True)
class Ended:
    """One run: its code, and what it printed."""

    code: int
    out: str
    err: str


def run(words: list[str], encoding: str = "utf-8") -> Ended:
    """Run a command line in this process, on streams as the real ones are."""
    kept = [os.memfd_create("out"), os.memfd_create("err")]
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = io.StringIO()
    sys.stdout, sys.stderr = (streams.OutputStream(number, encoding) for number in kept)
    code: object = 0
    try:
        app(words, prog_name="esctl")
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = before
    texts = []
    for number in kept:
        texts.append(os.pread(number, 10_000_000, 0).decode(encoding))
        os.close(number)
    assert isinstance(code, int)
    return Ended(code, *texts)


def words_of(name: str, path: str = "probe.file", text: str = "probe") -> list[str]:
    """A command line of that command: what it must have, and nothing else."""
    words = [*name.split(), *ENDLESS.get(name, [])]
    for parameter in COMMANDS[name].params:
        if parameter.name in WAITS:
            words += [max(parameter.opts, key=len), "1"]
        elif parameter.required:
            value = value_for(parameter, path, text)
            words += [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]
    return words


def is_number(parameter: Any) -> bool:
    return str(parameter.type.name).startswith(("int", "float"))


def value_for(parameter: Any, path: str, text: str) -> str:
    choices = list(getattr(parameter.type, "choices", ()))
    if choices:
        return str(getattr(choices[0], "value", choices[0]))
    if is_number(parameter):
        return "1"
    takes_path = parameter.type.name == "path" or (parameter.metavar or "") in auditlog.PATH_METAVARS
    return path if takes_path else text


def check(ended: Ended, words: list[str]) -> None:
    said = f"{words}\n{ended.out[-3000:]}\n{ended.err[-6000:]}"
    assert "Traceback" not in ended.err, said
    assert "ES9001" not in ended.err, said
    assert "a bug in esctl" not in ended.out, said
    assert ended.code in KNOWN_CODES, said
    if "json" in words and ended.out.lstrip().startswith("{\n"):
        for error in json.loads(ended.out)["errors"]:
            assert error["code"], said
            assert error["message"], said
            assert error["next"], said


@contextmanager
def refused(number: int, below: Path, *, writing_only: bool = False) -> Iterator[None]:
    REFUSAL.number, REFUSAL.below, REFUSAL.writing_only = number, str(below), writing_only
    try:
        yield
    finally:
        REFUSAL.number = 0


Situation = Callable[[Path, pytest.MonkeyPatch], None]


def files_of_another_user(home: Path, _patch: pytest.MonkeyPatch) -> None:
    REFUSAL.number, REFUSAL.below, REFUSAL.writing_only = errno.EACCES, str(home / "state"), False


def settings_of_another_user(home: Path, _patch: pytest.MonkeyPatch) -> None:
    config = home / "config" / "esctl" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("")
    REFUSAL.number, REFUSAL.below, REFUSAL.writing_only = errno.EACCES, str(home / "config"), False


def audit_log_of_another_user(home: Path, _patch: pytest.MonkeyPatch) -> None:
    auditlog.NotedCommand(auditlog.AuditLog("local"), "cluster up", "esctl cluster up").ended(0, None)
    REFUSAL.number, REFUSAL.below, REFUSAL.writing_only = errno.EACCES, str(auditlog.root()), False


def read_only(home: Path, _patch: pytest.MonkeyPatch) -> None:
    REFUSAL.number, REFUSAL.below, REFUSAL.writing_only = errno.EROFS, str(home), True


def full_disk(home: Path, _patch: pytest.MonkeyPatch) -> None:
    REFUSAL.number, REFUSAL.below, REFUSAL.writing_only = errno.ENOSPC, str(home), True


def sick_disk(home: Path, _patch: pytest.MonkeyPatch) -> None:
    REFUSAL.number, REFUSAL.below, REFUSAL.writing_only = errno.EIO, str(home), False


def no_descriptors(home: Path, _patch: pytest.MonkeyPatch) -> None:
    REFUSAL.number, REFUSAL.below, REFUSAL.writing_only = errno.EMFILE, str(home), False


def nobody(_home: Path, patch: pytest.MonkeyPatch) -> None:
    def unknown(_uid: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    patch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        patch.delenv(name, raising=False)


def nobody_with_a_state(_home: Path, patch: pytest.MonkeyPatch) -> None:
    kept = os.environ["XDG_STATE_HOME"]
    nobody(_home, patch)
    patch.setenv("XDG_STATE_HOME", kept)


def removed_directory(home: Path, patch: pytest.MonkeyPatch) -> None:
    gone = home / "gone"
    gone.mkdir()
    patch.chdir(gone)
    gone.rmdir()


def a_file_for_a_directory(home: Path, patch: pytest.MonkeyPatch) -> None:
    (home / "file").write_text("")
    patch.setenv("XDG_STATE_HOME", str(home / "file"))


def bytes_in_the_state(home: Path, patch: pytest.MonkeyPatch) -> None:
    place = home / "caf\udce9 state"
    place.mkdir()
    patch.setenv("XDG_STATE_HOME", str(place))
    state.add(plan("local", home / "caf\udce9 data"))


def bytes_in_the_audit_log(_home: Path, _patch: pytest.MonkeyPatch) -> None:
    for name in ("local", auditlog.MACHINE):
        log = auditlog.AuditLog(name)
        auditlog.NotedCommand(log, "cluster up", "esctl cluster up caf\udce9\x1b[2J").ended(0, None)
    with auditlog.AuditLog("local").path.open("ab") as file:
        file.write(b'{"what":"intent","run":"caf\xe9"}\n{"run":"x","what":"outcome","exit_code":"1"}\n')


def damaged_description(_home: Path, _patch: pytest.MonkeyPatch) -> None:
    (state.clusters_root() / "local" / "cluster.json").write_bytes(b"\xff\xfe")


KINDS: list[list[Situation]] = [
    [files_of_another_user, settings_of_another_user, audit_log_of_another_user, read_only, full_disk,
     sick_disk, no_descriptors],
    [nobody, nobody_with_a_state, removed_directory, a_file_for_a_directory, bytes_in_the_state,
     bytes_in_the_audit_log, damaged_description],
]  # fmt: skip
"""What the machine refuses, and what is odd about who, where and what there is."""
WHOLE_TABLE = bool(os.environ.get("WHOLE_TABLE"))
MEETINGS = [
    (name, situation)
    for index, name in enumerate(COMMANDS)
    for kind in KINDS
    for situation in (kind if WHOLE_TABLE else [kind[index % len(kind)]])
]
ENCODINGS = ["ascii", "latin-1"]
WORDS = [("caf\udce9.ndjson", "caf\udce9"), ("two words\n", "\u202e"), ("", "")]
"""A path and a text that are none."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "situation"), MEETINGS, ids=lambda each: getattr(each, "__name__", each))
def test_a_machine_that_refuses_is_no_bug(
    name: str, situation: Situation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    situation(tmp_path, monkeypatch)
    words = [*words_of(name), "-o", "json"]
    check(run(words), words)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "turn"), [(name, turn) for turn, name in enumerate(COMMANDS)])
def test_what_nobody_types_is_no_bug(name: str, turn: int) -> None:
    path, text = WORDS[turn % len(WORDS)]
    words = [*words_of(name, path, text), "-o", "json"]
    check(run(words), words)
    words = [*words_of(name), "-o", "table"]
    encoding = ENCODINGS[turn % len(ENCODINGS)]
    check(run(words, encoding), words)
    for number, parameter in enumerate(COMMANDS[name].params):
        if is_number(parameter) or parameter.name in PARSED:
            value = HUGE[(turn + number) % len(HUGE)]
            words = [*words_of(name), f"{max(parameter.opts, key=len)}={value}", "-o", "json"]
            check(run(words), words)
