"""The bare floor: it carries and stores what a node does, byte for byte, and leaves nothing behind."""

import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from bench.floor import disk, layouts
from bench.floor.__main__ import COLUMNS, Series, as_text, main
from bench.floor.cluster import floor, search_path
from bench.floor.runs import ratios
from esctl.load.generator import Generator
from esctl.load.result import Figures
from esctl.load.runner import Load, Plan
from esnode.dedup.batch import Batch, OffsetRange
from esnode.messages import Append, Appended
from esnode.raft.entry import EntryKind, seal
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
    plan = Plan(seconds=0.3, warmup_s=0.0, rate=0.0, batch=64, window=window)
    async with floor(tmp_path, window) as subject:
        load = Load(subject.log, Generator(run, 100, plan.batch), plan)
        await load.run()
    assert load.sent == load.acked > 0
    leader, *followers = [rows_of(tmp_path / name / disk.DATABASE) for name in os.listdir(tmp_path)]
    assert followers == [leader, leader]
    assert [(index, offset) for index, offset, _ in leader] == [
        (number + 1, 64 * number) for number in range(load.acked // 64)
    ]
    again = Generator(run, 100, plan.batch)
    sent = [again.next_batch() for _ in leader]
    head = layouts.RECORD.size - layouts.RECORD_AT
    assert {record[head:] for _, _, record in leader} == {batch.keys + batch.payload for batch in sent}


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
    for node in nodes:
        assert select.select([node], [], [], PATIENCE_S)[0], "a node has outlived the one that started it"
        os.close(node)
