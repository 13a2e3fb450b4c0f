"""The engines on disk against SIGKILL and against a disk that fails: what was acked is there.

A child writes without pause and reports each step before it begins (`intended`) and when storage has
acked it. It is killed at a random moment. Then the storage must hold exactly the last acked state or
the one intended after it: whole, in order, every checksum right.
"""

import multiprocessing
import multiprocessing.connection
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esnode.raft.messages import HardState
from esnode.storage.engines import open_storage
from tests.storage.busy_writer import Seen, seen_in, work
from tests.storage.logs import write
from tests.storage.places import US

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ["sqlite", "segments", "rocksdb"]


def forked(engine: str, data_dir: Path, seed: str, channel: multiprocessing.connection.Connection) -> None:
    """The child's whole life."""
    work(engine, data_dir, seed, lambda word, seen: channel.send((word, seen)))


def killed_round(engine: str, data_dir: Path, seed: str) -> tuple[Seen, Seen | None, int]:
    """Let a child write, and kill it; returns the last acked state, what it began after, and its acks."""
    source = random.Random(f"{seed}:kill")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.storage.busy_writer", "rocksdict"])
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=forked, args=(engine, data_dir, seed, theirs))
    child.start()
    theirs.close()
    enough = source.randint(2, 40)
    acked: Seen | None = None
    intended: Seen | None = None
    acks, killed = 0, False
    try:
        while True:
            word, seen = ours.recv()
            if word == "acked":
                acked, intended, acks = seen, None, acks + 1
            else:
                intended = seen
            if acks == enough and not killed:
                killed = True
                time.sleep(source.random() / 500)
                assert child.pid is not None
                os.kill(child.pid, signal.SIGKILL)
    except EOFError:
        killed = True  # the pipe ends with the child
    finally:
        child.kill()
        child.join()
        ours.close()
    assert child.exitcode == -signal.SIGKILL, "the child ended by itself"
    assert acked is not None
    return acked, intended, acks


def run_rounds(engine: str, data_dir: Path, rounds: int, name: str) -> None:
    if engine == "rocksdb":
        pytest.importorskip("rocksdict")
    total, in_flight = 0, 0
    for number in range(rounds):
        acked, intended, acks = killed_round(engine, data_dir, f"{name}:{engine}:{number}")
        storage = open_storage(engine, data_dir, US)
        found = seen_in(storage)
        storage.close()
        assert found in (acked, intended), f"round {number} after {acks} acks"
        total += acks
        in_flight += found != acked
    assert total > 10 * rounds


@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_acked_is_there_after_every_kill(engine: str, tmp_path: Path) -> None:
    run_rounds(engine, tmp_path / "data", 15, "short")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_acked_is_there_after_very_many_kills(engine: str, tmp_path: Path) -> None:
    run_rounds(engine, tmp_path / "data", 100, "long")


# --- a disk that fails ------------------------------------------------------------------------------


def run_until_it_fails(engine: str, data_dir: Path, file_bytes: int, *wrapper: str) -> list[str]:
    """Run the writer as a program until its disk fails; returns what it said."""
    command = [*wrapper, sys.executable, "-m", "tests.storage.busy_writer"]
    done = subprocess.run(
        [*command, engine, str(data_dir), str(file_bytes)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def check_that_nothing_acked_is_lost(engine: str, data_dir: Path, said: list[str]) -> None:
    assert said[-1].startswith("refused"), said[-2:]
    assert said[-2].startswith("failed"), said[-2:]
    last = {line.partition(" ")[0]: line.partition(" ")[2] for line in said}
    storage = open_storage(engine, data_dir, US)
    assert str(seen_in(storage)) in (last["acked"], last["intended"])
    storage.write([write(hard_state=HardState(10**7, 3))])
    storage.close()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace makes the system calls fail")
@pytest.mark.parametrize(
    ("engine", "file", "fault"),
    [
        ("sqlite", "log.sqlite-wal", "fdatasync:error=EIO:when=15"),
        ("sqlite", "log.sqlite-wal", "pwrite64:error=EIO:when=60"),
        ("sqlite", "log.sqlite", "fdatasync:error=EIO:when=3"),  # a checkpoint's
        ("sqlite", "snapshot", "fsync:error=EIO:when=20"),
        ("segments", "segments/0000000000000001.log", "pwritev2:error=EIO:when=15"),
        ("rocksdb", "rocksdb/000004.log", "fdatasync:error=EIO:when=15"),
    ],
)
def test_a_sync_that_fails_is_never_acked_or_retried(
    engine: str, file: str, fault: str, quick_path: Path
) -> None:
    """raft-bugs 21."""
    if engine == "rocksdb":
        pytest.importorskip("rocksdict")
    calls = quick_path / "calls"
    traced = ["strace", "-f", "-qq", "-o", str(calls), "-e", f"trace={fault.partition(':')[0]}"]
    traced += ["-e", f"inject={fault}"]
    if file != "snapshot":  # its name has the index in it
        traced += ["-P", str(quick_path / "data" / file)]
    probe = subprocess.run([*traced, "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip("strace may not trace here")
    said = run_until_it_fails(engine, quick_path / "data", 1 << 40, *traced)
    assert "(INJECTED)" in calls.read_text()
    check_that_nothing_acked_is_lost(engine, quick_path / "data", said)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_that_cannot_grow_ends_the_storage_and_loses_nothing(engine: str, quick_path: Path) -> None:
    if engine == "rocksdb":
        pytest.importorskip("rocksdict")
    said = run_until_it_fails(engine, quick_path / "data", 1_000_000)
    check_that_nothing_acked_is_lost(engine, quick_path / "data", said)
