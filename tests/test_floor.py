"""The bare floor: it carries and stores what a node does, byte for byte, and leaves nothing behind."""

import json
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import pytest

from bench.floor import disk, layouts, node
from bench.floor.__main__ import COLUMNS, Series, as_text, main
from bench.floor.cluster import floor, search_path
from bench.floor.runs import ratios
from esctl.bench.generator import Generator
from esctl.bench.result import Figures
from esctl.bench.runner import Load, TrialPlan
from esnode.dedup.batch import Batch, OffsetRange, merge
from esnode.messages import Append, Appended
from esnode.raft.entry import Entry, EntryKind, parse, seal
from esnode.raft.messages import AppendEntries, AppendReply
from esnode.storage import sqlite as storage
from esnode.storage.interface import Identity
from esnode.wire import encode

BATCH = Batch(64, bytes(16 * 64), bytes(6402))
PATIENCE_S = 60.0


def rows_of(database: Path) -> list[tuple[int, int, bytes]]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute("SELECT idx, base_offset, record FROM entries ORDER BY idx").fetchall()
    finally:
        connection.close()


@pytest.mark.slow
async def test_a_short_run_acks_every_event_and_leaves_the_same_log_three_times(tmp_path: Path) -> None:
    run, window = "run", 8
    plan = TrialPlan(seconds=0.3, warmup_s=0.0, rate=0.0, batch=64, window=window)
    async with floor(tmp_path, window) as subject:
        load = Load(subject.log, Generator(run, 100, plan.batch), plan)
        await load.run()
    assert load.sent == load.acked > 0
    leader, *followers = [rows_of(tmp_path / name / disk.DATABASE) for name in os.listdir(tmp_path)]
    assert followers == [leader, leader]
    records = [parse_record(record) for _, _, record in leader]
    assert [(index, offset) for index, offset, _ in leader] == list(
        enumerate(accumulate((one.count for one in records[:-1]), initial=0), 1)
    )
    assert sum(one.count for one in records) == load.acked
    again = Generator(run, 100, plan.batch)
    sent = [again.next_batch() for _ in range(load.acked // 64)]
    assert b"".join(one.keys for one in records) == b"".join(batch.keys for batch in sent)
    at = 0
    for one in records:
        merged = merge(sent[at : at + one.count // 64])
        assert (one.keys, one.payload) == (merged.keys, merged.payload)
        at += one.count // 64
    assert len(records) < len(sent), "batches that came together are one row"


def parse_record(record: bytes) -> Entry:
    """A record of the floor, with the checksum that it lacks."""
    return parse(google_crc32c.value(record[4:]).to_bytes(4, "big") + record[4:])


class Wires(NamedTuple):
    """A leader without followers, and the two ends of its client's connection."""

    leader: node.Leader
    client: socket.socket


@pytest.fixture
def wires(tmp_path: Path) -> Iterator[Wires]:
    """A leader that is a majority by itself."""
    ours, its = socket.socketpair()
    with ours, its:
        yield Wires(node.Leader(tmp_path, its, []), ours)


def turn_of(batches: Sequence[Batch], first_request: int = 1) -> memoryview:
    return memoryview(b"".join(encode(Append(n, batch)) for n, batch in enumerate(batches, first_request)))


@pytest.mark.parametrize(
    ("count", "event_bytes", "batches", "expected"),
    [
        (64, 100, 1, [1]),
        (64, 100, 16, [16]),
        (64, 100, 40, [16, 16, 8]),
        (64, 1000, 9, [4, 4, 1]),
        (1000, 100, 2, [1, 1]),
        (200, 2000, 2, [1, 1]),
    ],
)
def test_the_batches_of_one_turn_are_the_entries_that_a_node_makes_of_them(
    tmp_path: Path, wires: Wires, count: int, event_bytes: int, batches: int, expected: list[int]
) -> None:
    generator = Generator("run", event_bytes, count)
    sent = [generator.next_batch() for _ in range(batches)]
    turn = turn_of(sent)
    assert wires.leader._take(turn, len(turn)) == len(turn)
    wires.leader._disk.stop()
    rows = rows_of(tmp_path / disk.DATABASE)
    records = [parse_record(record) for _, _, record in rows]
    assert [one.count // count for one in records] == expected
    offset = 0
    for index, one in enumerate(records, 1):
        parts, sent = sent[: one.count // count], sent[one.count // count :]
        whole = merge(parts)
        assert one == seal(
            index=index, term=1, kind=EntryKind.BATCH, base_offset=offset, log_time_ms=index,
            count=whole.count, keys=whole.keys, payload=whole.payload,
        )  # fmt: skip
        offset += one.count


def test_each_batch_of_an_entry_has_an_ack_of_its_own(wires: Wires) -> None:
    generator = Generator("run", 100, 64)
    turn = turn_of([generator.next_batch() for _ in range(20)], first_request=7)
    wires.leader._take(turn, len(turn))
    wires.leader._disk.stop()
    acks = wires.client.recv(1 << 16)
    assert acks == b"".join(encode(Appended(7 + n, (OffsetRange(64 * n, 64),), 0)) for n in range(20))


def test_the_frames_of_the_floor_are_as_long_as_those_of_a_node() -> None:
    carried = len(BATCH.keys) + len(BATCH.payload)
    entry = seal(
        index=1, term=1, kind=EntryKind.BATCH, base_offset=7, log_time_ms=1, count=64,
        keys=BATCH.keys, payload=BATCH.payload,
    )  # fmt: skip
    record = layouts.RECORD.size - layouts.RECORD_AT + carried
    assert layouts.APPEND.size + carried == len(encode(Append(1, BATCH)))
    assert layouts.APPENDED.size == len(encode(Appended(1, (OffsetRange(0, 64),), 0)))
    assert record == len(entry.record)
    assert layouts.ENTRIES.size + layouts.RECORD_AT + record == len(
        encode(AppendEntries(1, 0, 0, 0, (entry,)))
    )
    assert layouts.REPLY.size == len(encode(AppendReply(1, 1)))
    assert layouts.BASE_OFFSET.unpack_from(entry.record, layouts.BASE_OFFSET_AT) == (7,)


def test_the_floor_has_the_table_and_the_settings_of_a_node(tmp_path: Path) -> None:
    (tmp_path / "floor").mkdir()
    disk.Disk(tmp_path / "floor", lambda _index: None).stop()
    storage.SqliteStorage(tmp_path / "node", Identity("test", 1)).close()
    tables = []
    for home in ("floor", "node"):
        connection = sqlite3.connect(tmp_path / home / storage.DATABASE)
        (found,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'entries'").fetchall()
        (page,) = connection.execute("PRAGMA page_size").fetchall()
        tables.append((found, page))
        connection.close()
    assert tables[0] == tables[1]
    assert disk.SETTINGS == storage._SETTINGS
    assert disk.CHECKPOINT_BYTES == storage.CHECKPOINT_BYTES


def test_a_ratio_is_the_median_of_the_turns_not_that_of_the_medians() -> None:
    floor: list[Figures] = [{"events_per_s": 100.0}, {"events_per_s": 400.0}, {"events_per_s": 200.0}]
    ours: list[Figures] = [{"events_per_s": 50.0}, {"events_per_s": 100.0}, {"events_per_s": 120.0}]
    assert ratios(ours, floor) == {"events_per_s": 0.5}


@pytest.mark.parametrize(
    "words",
    [["--rate", "-5"], ["--rate", "inf"], ["--batch", "0"], ["--warmup", "nan"], ["--seconds", "inf"]],
)
def test_what_cannot_be_measured_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_the_table_fits_80_columns() -> None:
    figures: Figures = {name: 12_345.678 if name == "events_per_s" else 123.456 for name, _, _ in COLUMNS}
    lines = as_text([Series("floor", floor, [figures]), Series("esnode", floor, [figures])], {"batch": 64})
    assert max(map(len, lines)) <= 80


def command(directory: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "bench.floor", "--directory", str(directory), *more]


@pytest.mark.slow
def test_the_command_compares_the_floor_with_a_cluster_and_leaves_nothing(tmp_path: Path) -> None:
    short = ["--seconds", "0.3", "--warmup", "0.1", "--runs", "1", "--window", "8"]
    done = subprocess.run(
        command(tmp_path, *short, "--beside", "-o", "json"),
        env={**os.environ, "PYTHONPATH": search_path()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name in ("floor", "esnode"):
        median = found[name]["median"]
        assert median["events_per_s"] > 0
        assert median["not_acked_events"] == 0
        assert all(median[f"{role}_us_per_event"] > 0 for role in ("client", "leader", "follower_1"))
    assert found["ratio"]["leader_us_per_event"] == pytest.approx(
        found["esnode"]["median"]["leader_us_per_event"] / found["floor"]["median"]["leader_us_per_event"]
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_a_run_that_is_told_to_end_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path, "--seconds", "600"),
        env={**os.environ, "PYTHONPATH": search_path()},
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"floor: run 1 of 3\n"
        process.terminate()
        assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM
    assert os.listdir(tmp_path) == []


HOLDER = """
import sys, trio
from pathlib import Path
from bench.floor import cluster

async def hold():
    async with getattr(cluster, sys.argv[1])(Path(sys.argv[2]), 1) as subject:
        print(*subject.pids.values(), flush=True)
        await trio.sleep_forever()

trio.run(hold)
"""


@pytest.mark.slow
@pytest.mark.parametrize("opener", ["floor", "esnode_cluster"])
def test_the_nodes_end_with_a_process_that_is_killed(tmp_path: Path, opener: str) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, opener, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": search_path()},
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        nodes = [os.pidfd_open(int(pid)) for pid in holder.stdout.readline().split()]
        holder.kill()
    assert len(nodes) == 3
    for each in nodes:
        assert select.select([each], [], [], PATIENCE_S)[0], "a node has outlived the one that started it"
        os.close(each)
