"""What is written arrives whole, or the command says that it did not: real descriptors, real processes."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from esctl.clusters import state
from esctl.ui import streams
from esctl.ui.streams import OutputStream
from tests.esctl import talkative
from tests.esctl.cli.test_invocation import until_it_ends
from tests.esctl.conftest import plan

ESCTL = [sys.executable, "-m", "esctl.main"]
TALKATIVE = [sys.executable, "-m", "tests.esctl.talkative"]


def shell(words: list[str], redirection: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command with its streams redirected by a shell."""
    return subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "bash", *words], capture_output=True, timeout=60
    )


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["-o", "json"]])
@pytest.mark.parametrize(("fails", "code"), [([], 0), (["fails"], 11)])
def test_a_reader_that_leaves_ends_neither_the_work_nor_changes_the_verdict(
    tmp_path: Path, words: list[str], fails: list[str], code: int
) -> None:
    for redirection in ("| head -c1", "2> >(head -c1)", "2>&1 | true"):
        place = tmp_path / "done"
        done = shell([*TALKATIVE, str(place), *fails, *words], f"{redirection}; exit ${{PIPESTATUS[0]}}")
        assert done.returncode == code, (redirection, done.stderr)
        assert place.read_text() == talkative.DONE
        assert b"Traceback" not in done.stderr
        place.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["-o", "json"]])
@pytest.mark.parametrize(("fails", "code"), [([], 1), (["fails"], 11)])
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", ">&- <&-"])
def test_what_cannot_be_printed_is_an_error_after_the_work(
    tmp_path: Path, words: list[str], fails: list[str], code: int, redirection: str
) -> None:
    place = tmp_path / "done"
    done = shell([*TALKATIVE, str(place), *fails, *words], redirection)
    assert done.returncode == code
    assert b"error ES4030: standard output was not written to its end" in done.stderr
    assert b"Traceback" not in done.stderr
    assert place.read_text() == talkative.DONE, "nothing that was printed went into a file"


@pytest.mark.slow
@pytest.mark.parametrize(("redirection", "code"), [("2>&-", 0), ("2>&- <&-", 0), ("2>/dev/full", 1)])
def test_messages_that_nobody_wants_are_no_error_and_lost_ones_are(
    tmp_path: Path, redirection: str, code: int
) -> None:
    done = shell([*TALKATIVE, str(tmp_path / "done")], redirection)
    assert done.returncode == code
    assert len(done.stdout.splitlines()) == 1 + talkative.ROWS  # the headings, and each row


@pytest.mark.slow
@pytest.mark.parametrize("which", ["stdout", "stderr"])
@pytest.mark.parametrize("words", [[], ["-o", "json"]])
def test_a_pipe_that_takes_part_of_a_write_gets_all_of_it(
    tmp_path: Path, which: str, words: list[str]
) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, which: write}
    with subprocess.Popen([*TALKATIVE, str(tmp_path / "done"), *words], **pipes) as process:
        os.close(write)
        os.set_blocking(read, True)
        with os.fdopen(read, "rb") as pipe:
            data = pipe.read(1)
            while process.poll() is None and len(data) < 65_536:  # it has filled the pipe, or has ended
                data += pipe.read(1)
            data += pipe.read()
    assert process.returncode == 0
    if which == "stderr":
        assert len(data.splitlines()) == talkative.LINES
    elif words:
        assert json.loads(data)["data"]["rows"] == list(range(talkative.ROWS))
    else:
        headings, *rows = data.splitlines()
        assert (headings, [int(line) for line in rows]) == (b"n", list(range(talkative.ROWS)))


def test_an_input_that_has_nothing_yet_is_waited_for() -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    with pytest.raises(BlockingIOError):
        os.read(read, 1)
    writer = threading.Timer(0.05, os.write, (write, b"late"))
    writer.start()
    assert streams.read(read, 100) == b"late"
    writer.join()
    os.close(write)
    assert streams.read(read, 100) == b""
    os.close(read)


@pytest.mark.slow
def test_ctrl_c_ends_an_answer_that_nobody_takes(tmp_path: Path) -> None:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)  # less than what is written first
    said = tmp_path / "said"
    command = [*TALKATIVE, str(tmp_path / "done")]
    with said.open("wb") as errors, subprocess.Popen(command, stdout=write, stderr=errors) as process:
        assert os.read(read, 1)
        try:
            assert until_it_ends(process, signal.SIGINT) == 130
        finally:
            process.kill()
    assert b"Traceback" not in said.read_bytes()
    os.close(write)
    os.close(read)


@pytest.mark.slow
def test_a_closed_standard_input_is_not_an_empty_one(tmp_path: Path) -> None:
    state.add(plan("quiet", tmp_path / "quiet"))
    for words in (["produce", "-"], ["verify", "--input", "-"]):
        done = shell([*ESCTL, *words], "<&-")
        assert done.returncode == 2, done.stderr
        assert b"ES4011: standard input is closed" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1", "utf-8"])
def test_no_encoding_of_the_streams_is_an_error(tmp_path: Path, encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "80"}
    for words in (["--help"], ["produce", "--help"], ["explain", "-o", "table"], ["produce", "ä→😀"]):
        done = subprocess.run([*ESCTL, *words], capture_output=True, timeout=60, env=environment)
        assert b"Traceback" not in done.stderr, words
        assert b"a bug in esctl" not in done.stdout + done.stderr
        assert (done.stdout + done.stderr).isascii() or not encoding.startswith("ascii")


def test_a_terminal_that_hangs_up_is_a_reader_that_left() -> None:
    master, slave = pty.openpty()
    stream = OutputStream(slave, "utf-8")
    os.close(master)
    stream.write("nobody sees this\n")
    stream.flush()
    assert stream.reader_left
    assert streams.failure_of(stream) is None
    os.close(slave)


def test_a_write_that_is_interrupted_is_neither_cut_nor_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    stream = OutputStream(write, "utf-8")
    os.set_blocking(stream.fileno(), False)
    received, full, wait = bytearray(), threading.Event(), streams._wait

    def wait_and_tell(descriptor: int, event: int) -> None:
        full.set()
        wait(descriptor, event)

    def interrupt() -> None:
        full.wait(60)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        while data := os.read(read, 65_536):
            received.extend(data)

    class Interrupted(Exception):
        pass

    def handler(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, handler)
    text = "".join(f"{number}\n" for number in range(50_000))
    stream.reconfigure(write_through=True)
    monkeypatch.setattr(streams, "_wait", wait_and_tell)
    reader = threading.Thread(target=interrupt, daemon=True)
    reader.start()
    try:
        with pytest.raises(Interrupted):
            stream.write(text)
    finally:
        signal.signal(signal.SIGUSR1, before)
    stream.flush()
    os.close(stream.fileno())
    reader.join()
    os.close(read)
    assert received
    assert text.encode().startswith(bytes(received))
    assert stream.failure is None
