"""What a start waits for: one node of three with a long log is killed and started again, part by part.

    python -m bench.restart [--events 20000000] [--live-keys 10000000] [--directory DIRECTORY] [--times 3]
                            [--engine sqlite] [--no-checkpoint]

Builds the log once, through the storage engine, with the checkpoint as old as it may get, and gives it to
three nodes on loopback. Then one of them is killed and started, again and again: seconds from the start of
the process to each line of its own log, processor time and memory when it votes. Files in the page cache.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from esnode import limits
from esnode.apply import Machine
from esnode.config import Address, Config, Dedup, Member, dump
from esnode.errors import EventStreamError
from esnode.raft.entry import Entry, EntryKind, seal
from esnode.raft.messages import HardState, Write
from esnode.storage.engines import open_storage
from esnode.storage.interface import Identity, Storage
from esnode.upkeep.checkpointer import Checkpointer

BATCH_EVENTS: Final = 64
EVENT_BYTES: Final = 104
"""100 bytes of an event and the head of its byte string."""
ENTRIES_A_WRITE: Final = 256
ENTRIES_A_MS: Final = 7
"""Of log time: 450,000 events a second."""
PARTS: Final = {
    "storage_opened": "storage",
    "savepoint_loaded": "checkpoint",
    "log_replayed": "log",
    "keys_indexed": "keys",
    "node_started": "started",
    "votes": "votes",
}
"""The events of a node's log, and the heads of their columns."""
BUILT: Final = "built.json"
"""Says in a directory that is used again what was built there, once all of it is."""
CLUSTER: Final = "restart"
TELL_EVERY_S: Final = 5.0
"""Between two lines about what takes long."""
GIVE_UP_S: Final = 300.0


# --- the log ----------------------------------------------------------------------------------------


def prepare(
    directory: Path, engine: str, events: int, live_keys: int, *, checkpoint: bool = True
) -> list[Path]:
    """The configuration files of three nodes below `directory`, with so many events in the log of each.

    What is there already is used again, if it is the same; raises `ValueError` if not.
    """
    dedup = Dedup.of_keys(live_keys, ttl_ms=24 * 3_600_000)
    first = directory / "node-1"
    pending = time.monotonic()
    asked = {"events": events, "live_keys": live_keys, "engine": engine, "no_checkpoint": not checkpoint}
    if not first.exists():
        build(first, engine, events, dedup, checkpoint=checkpoint)
        for node_id in (2, 3):
            give(engine, first, directory / f"node-{node_id}", node_id)
        (directory / BUILT).write_text(json.dumps(asked), encoding="utf-8")
    elif not (directory / BUILT).exists() or json.loads((directory / BUILT).read_text()) != asked:
        raise ValueError(f"{directory} holds another log than the one that is asked for")
    size_bytes = sum(each.stat().st_size for each in first.rglob("*") if each.is_file())
    note(f"{events:,} events, {size_bytes / 1e9:.2f} GB, built in {time.monotonic() - pending:.0f} s")
    return configs(directory, engine, dedup)


def build(path: Path, engine: str, events: int, dedup: Dedup, *, checkpoint: bool) -> None:
    """A directory of node 1 with so many events in its log."""
    tell_at_s = time.monotonic() + TELL_EVERY_S
    storage = open_storage(engine, path, Identity(CLUSTER, 1))
    machine = Machine(dedup, searchable=False)
    entries = 1 + -(-events // BATCH_EVENTS)
    saved_at = max(1, entries - limits.CHECKPOINT_ENTRIES)
    source = random.Random(1)
    payload = source.randbytes(BATCH_EVENTS * EVENT_BYTES)
    group: list[Entry] = []
    for index in range(1, entries + 1):
        entry = _entry(index, machine.next_offset, source, payload)
        machine.apply(entry)
        group.append(entry)
        if len(group) == ENTRIES_A_WRITE or index in (saved_at, entries):
            storage.write([Write(1, None, HardState(1, 1), tuple(group), index - len(group))])
            storage.tend()
            group = []
            if time.monotonic() > tell_at_s:
                tell_at_s += TELL_EVERY_S
                note(f"{machine.next_offset:,} of {events:,} events built")
        if checkpoint and index == saved_at:
            _save(storage, machine)
    storage.close()


def _entry(index: int, offset: int, source: random.Random, payload: bytes) -> Entry:
    if index == 1:
        return seal(index=1, term=1, kind=EntryKind.NOOP, base_offset=0, log_time_ms=0)
    return seal(
        index=index,
        term=1,
        kind=EntryKind.BATCH,
        base_offset=offset,
        log_time_ms=index // ENTRIES_A_MS,
        count=BATCH_EVENTS,
        keys=source.randbytes(limits.KEY_BYTES * BATCH_EVENTS),
        payload=payload,
    )


def _save(storage: Storage, machine: Machine) -> None:
    pending = Checkpointer(machine, storage, None).begin()
    storage.keep_keys(pending.first_chunk, pending.chunks)
    storage.save_checkpoint(pending.checkpoint)


def give(engine: str, source: Path, target: Path, node_id: int) -> None:
    """The same log in the directory of another node."""
    open_storage(engine, target, Identity(CLUSTER, node_id)).close()
    for each in source.iterdir():
        if each.name not in {"identity.json", "durable", "lock"}:
            if each.is_dir():
                shutil.copytree(each, target / each.name, dirs_exist_ok=True)
            else:
                shutil.copyfile(each, target / each.name)


# --- the nodes --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """A start: seconds from the start of the process to each event of its log, and what it took by then."""

    at_s: dict[str, float]
    cpu_s: float
    rss_bytes: int


class Process:
    """One node's process."""

    def __init__(self, config_file: Path) -> None:
        self.pending = time.time()
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "esnode", "--config", str(config_file)],
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def lines(self) -> Iterator[dict[str, Any]]:
        """Its log, as it comes; raises `RuntimeError` when it ends."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            yield json.loads(line)
        raise RuntimeError(f"the node has ended with {self._process.wait()}")

    def until_it_votes(self) -> Started:
        """Wait until a peer has let it in: from then on its vote counts. Kills it when that takes long."""
        at_s: dict[str, float] = {}
        patience = threading.Timer(GIVE_UP_S, self._process.kill)
        patience.start()
        try:
            for line in self.lines():
                since_s = datetime.fromisoformat(line["time"]).timestamp() - self.pending
                at_s.setdefault(line["event"], since_s)
                if "node_started" in at_s and "peer_connected" in at_s:
                    break
        finally:
            patience.cancel()
        assert self._process.stderr is not None
        # Nobody waits for its log any more; a full pipe would hold the node up.
        threading.Thread(target=self._process.stderr.read, daemon=True).start()
        at_s["votes"] = max(at_s["node_started"], at_s["peer_connected"])
        proc = Path(f"/proc/{self._process.pid}")
        fields = (proc / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
        cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        pages = int((proc / "statm").read_text(encoding="ascii").split()[1])
        return Started(at_s, cpu_s, pages * os.sysconf("SC_PAGE_SIZE"))

    def kill(self) -> None:
        """End it at once."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def configs(directory: Path, engine: str, dedup: Dedup) -> list[Path]:
    """The configuration files of three nodes."""
    ports = free_ports(6)
    members = tuple(
        Member(n, Address("127.0.0.1", ports[2 * n - 2]), Address("127.0.0.1", ports[2 * n - 1]))
        for n in (1, 2, 3)
    )
    files = []
    for member in members:
        data_dir = directory / f"node-{member.id}"
        config = Config(CLUSTER, member.id, data_dir, members, storage=engine, dedup=dedup)
        files.append(directory / f"node-{member.id}.toml")
        files[-1].write_text(dump(config), encoding="utf-8")
    return files


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def running(files: Sequence[Path]) -> Iterator[list[Process]]:
    """These nodes, until the end of the block."""
    with ExitStack() as started:
        processes = []
        for file in files:
            processes.append(Process(file))
            started.callback(processes[-1].kill)
        yield processes


# --- the measurement --------------------------------------------------------------------------------


def measure(files: Sequence[Path], times: int) -> None:
    """Start the first node so often beside the two others, and print what each start took."""
    with running(files[1:]) as others:
        for other in others:
            other.until_it_votes()
        say(f"{'seconds to':12}" + "".join(f"{head:>10}" for head in PARTS.values()))
        for number in range(1, times + 1):
            with running(files[:1]) as (node,):
                started = node.until_it_votes()
            parts = "".join(
                f"{started.at_s[part]:10.2f}" if part in started.at_s else f"{'-':>10}" for part in PARTS
            )
            say(f"start {number:<6}{parts}")
            say(f"{'':12}{started.cpu_s:.2f} s of processor time, {started.rss_bytes >> 20} MiB resident")


def main() -> None:
    """Build, start, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.restart", description="Measure what a start takes")
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--live-keys", type=int, default=10_000_000)
    parser.add_argument("--directory", type=Path, help="where to build; the default is made and removed")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--engine", default="sqlite")
    parser.add_argument("--no-checkpoint", action="store_true", help="replay everything, once")
    wanted = parser.parse_args()
    if min(wanted.events, wanted.live_keys, wanted.times) < 1:
        parser.error("--events, --live-keys and --times are 1 at least")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the nodes go with it
    try:
        _build_and_measure(wanted)
    except KeyboardInterrupt:
        sys.exit(130)
    except EventStreamError as error:
        sys.exit(f"bench.restart: {error.code}: {error}")


def _build_and_measure(wanted: argparse.Namespace) -> None:
    with ExitStack() as opened:
        directory = wanted.directory or Path(opened.enter_context(tempfile.TemporaryDirectory()))
        try:
            files = prepare(
                directory, wanted.engine, wanted.events, wanted.live_keys, checkpoint=not wanted.no_checkpoint
            )
        except ValueError as error:
            sys.exit(f"bench.restart: {error}")
        measure(files, 1 if wanted.no_checkpoint else wanted.times)


def note(line: str) -> None:
    """What goes on, for whoever waits."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def say(line: str) -> None:
    """One line of the result, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
