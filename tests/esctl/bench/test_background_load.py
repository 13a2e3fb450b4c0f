"""The load that runs on by itself: samples, ledger, witness, and how commands find and stop it."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from esctl.bench import background, backgroundloads, ledger
from esctl.bench.background import BackgroundLoad, Witness
from esctl.bench.generator import Generator
from esctl.bench.ledger import Ledger, LoadPlan
from esctl.clusters import state
from esctl.clusters.backends import pidfile
from esctl.clusters.state import Cluster, write_atomically
from esctl.errors import MachineRefused
from esctl.playbookerrors import LoadNotFound, LoadRuns, RunUnreadable
from esctl.verify.verdict import Flaw
from esnode.dedup.batch import OffsetRange
from esnode.errors import NoQuorum, OperationTimeout
from tests.esctl.commands.test_commands import Run
from tests.esctl.fake_log import Log

PLAN = LoadPlan("load", "c", "0123456789abcdef", rate=1000.0, seconds=5.0, size=100, batch=10)


async def run_load(log: Log, directory: Path, plan: LoadPlan = PLAN) -> list[dict[str, Any]]:
    ledger.write_plan(directory, plan)
    books, samples = io.StringIO(), io.StringIO()
    await BackgroundLoad(log, plan, Ledger(books), samples).run()
    (directory / ledger.LEDGER).write_text(books.getvalue())  # the clock stands meanwhile
    (directory / ledger.SAMPLES).write_text(samples.getvalue())
    return [dict(sample) for sample in ledger.samples(directory)]


async def test_a_load_keeps_its_rate_and_samples_it(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    samples = await run_load(Log(delay_s=0.02), tmp_path)
    last = samples[-1]
    assert 45 <= len(samples) <= 60
    assert last["sent"] == last["acked"] == pytest.approx(5000, abs=10)
    assert (last["running"], last["failed"], last["unknown"]) == (False, 0, 0)
    assert samples[30]["rate_per_s"] == pytest.approx(1000, rel=0.05)
    assert samples[30]["p50_ms"] == pytest.approx(20, abs=1)


async def test_a_pause_is_seen_in_the_gap_and_from_when_events_were_due(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    samples = await run_load(Log(delay_s=0.01, still_from=2.0, still_to=2.8), tmp_path)
    assert 800 <= samples[-1]["longest_gap_ms"] <= 830
    assert max(sample["max_ms"] or 0 for sample in samples) == pytest.approx(800, abs=30)
    assert max(sample["silence_ms"] for sample in samples) > 600


async def test_what_was_due_in_an_outage_and_never_sent_is_in_the_latencies(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    plan = replace(PLAN, rate=2000.0, batch=1, seconds=6.0)
    samples = await run_load(Log(delay_s=0.01, still_from=2.0, still_to=5.0), tmp_path, plan)
    assert samples[-1]["sent"] == pytest.approx(12_000 - 3_000, abs=30), "the window was full for 1.5 s more"
    after = next(sample for sample in samples if sample["max_ms"] is not None and sample["max_ms"] > 2900)
    assert 1000 < after["p50_ms"] < 2500, "half of what was due in the outage had waited for so long"


async def test_the_ledger_says_what_became_of_each_batch(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    log = Log()
    log.error = OperationTimeout("late")
    samples = await run_load(log, tmp_path)
    operations, acked = ledger.operations_of(tmp_path)
    assert (acked, samples[-1]["unknown"]) == (samples[-1]["acked"], 500)
    made = Generator(PLAN.run, PLAN.size, PLAN.batch)
    sent = [made.next_batch().keys for _ in range(samples[-1]["sent"] // PLAN.batch)]
    taken = [keys for number, keys in enumerate(sent, start=1) if number % 10]
    assert operations.check(b"".join(taken), exact=False).clean
    lost = operations.check(b"".join(taken[:-1]), exact=False)
    assert lost.counts == {Flaw.LOST: 10}


async def test_what_was_refused_must_not_be_in_the_log(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    log = Log()
    log.error, log.fails_every = NoQuorum("nobody leads"), 1
    samples = await run_load(log, tmp_path)
    assert (samples[-1]["failed"], samples[-1]["acked"]) == (samples[-1]["sent"], 0)
    operations, _ = ledger.operations_of(tmp_path)
    first = Generator(PLAN.run, PLAN.size, PLAN.batch).next_batch().keys
    assert operations.check(first, exact=False).counts == {Flaw.ACKED_BUT_REFUSED: 10}


async def test_a_load_that_is_told_to_stop_waits_for_its_last_acks(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    books, samples = io.StringIO(), io.StringIO()
    load = BackgroundLoad(Log(delay_s=0.5), PLAN, Ledger(books), samples)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run)
        await trio.sleep(1.0)
        load.stopping.set()
    last = json.loads(samples.getvalue().splitlines()[-1])
    assert trio.current_time() < 2
    assert last["sent"] == last["acked"] == pytest.approx(1000, abs=10)


def keys(first: int, count: int) -> bytes:
    return ledger.keys_of(PLAN, first, count)


def split(packed: bytes) -> list[bytes]:
    return [packed[at : at + 16] for at in range(0, len(packed), 16)]


def test_the_keys_of_the_ledger_are_those_of_the_events() -> None:
    made = Generator(PLAN.run, 100, PLAN.batch)
    made.next_batch()
    assert made.next_batch().keys == ledger.keys_of(PLAN, 10, 10)
    several = replace(PLAN, sources=("/a", "/b", "/c"))
    made = Generator(PLAN.run, 100, PLAN.batch, several.sources)
    for first in range(0, 60, 10):
        assert made.next_batch().keys == ledger.keys_of(several, first, 10)


def test_the_ledger_of_several_partitions_is_held_against_each_of_their_logs(tmp_path: Path) -> None:
    plan = replace(PLAN, sources=("/a", "/b"))
    ledger.write_plan(tmp_path, plan)
    assert tuple(ledger.read_plan(tmp_path).sources) == plan.sources
    with (tmp_path / ledger.LEDGER).open("w") as file:
        books = Ledger(file)
        books.acked(0, 10, (1.0, 2.0), [OffsetRange(0, 10)], 0, 0)
        books.acked(10, 10, (1.0, 2.0), [OffsetRange(0, 10)], 0, 1)
        books.failed(20, 10, (1.0, 2.0), definite=False, partition=0)
        books.acked(30, 10, (1.0, 2.0), [OffsetRange(10, 10)], 0, 1)
    assert [ledger.operations_of(tmp_path, partition)[1] for partition in (0, 1, 2)] == [10, 20, 0]
    operations, _ = ledger.operations_of(tmp_path, 1)
    log = ledger.keys_of(plan, 10, 10) + ledger.keys_of(plan, 30, 10)
    assert operations.check(log, 0, may_repeat=lambda *_: False, exact=False).clean
    swapped = ledger.keys_of(plan, 30, 10) + ledger.keys_of(plan, 10, 10)
    assert not operations.check(swapped, 0, may_repeat=lambda *_: False, exact=False).clean


async def test_a_load_on_several_partitions_sends_to_each_and_holds_each_log_against_its_acks(
    tmp_path: Path,
) -> None:
    plan = replace(PLAN, sources=("/a", "/b"), seconds=0.2)
    with (tmp_path / "books").open("w") as books, (tmp_path / "samples").open("w") as samples:
        load = BackgroundLoad(Log(), plan, Ledger(books), samples)
        with trio.fail_after(10):
            await load.run()
    lines = [json.loads(line) for line in (tmp_path / "books").read_text().splitlines()]
    assert {line[-1] for line in lines} == {0, 1}
    assert all(line[-1] == line[1] // plan.batch % 2 for line in lines)


def test_a_witness_finds_an_acked_event_that_is_not_at_its_offset() -> None:
    witness = Witness()
    witness.acked(keys(0, 3), [OffsetRange(10, 3)])
    witness.read(0, split(keys(100, 10)))
    witness.read(10, split(keys(0, 3)))
    assert (witness.checked, witness.lost) == (3, 0)
    witness.read(13, split(keys(3, 2)))
    witness.acked(keys(3, 1) + keys(9, 1), [OffsetRange(13, 2)])
    assert (witness.checked, witness.lost) == (5, 1)
    witness.acked(keys(20, 2), [OffsetRange(20, 2)])
    witness.read(30, split(keys(30, 1)))
    assert (witness.checked, witness.lost) == (7, 3), "the log has passed over them"


def test_a_damaged_ledger_is_named_and_a_torn_line_is_not_missed(tmp_path: Path) -> None:
    ledger.write_plan(tmp_path, PLAN)
    path = tmp_path / ledger.LEDGER
    path.write_text('["a",0,2,1.0,2.0,[[0,2]],0]\n["a",2,2,1.0')
    assert ledger.operations_of(tmp_path)[1] == 2
    path.write_text("nonsense\n")
    with pytest.raises(RunUnreadable, match=r"ledger\.jsonl"):
        ledger.operations_of(tmp_path)


def test_a_load_that_nobody_started_cannot_be_stopped(tmp_path: Path) -> None:
    cluster = Cluster("c", "c-1", "process", "sqlite", "now", tmp_path, ())
    with pytest.raises(LoadNotFound, match="no load load"):
        backgroundloads.get(cluster, "load")


@pytest.mark.slow
def test_a_load_is_found_by_its_note_and_ended(tmp_path: Path) -> None:
    cluster = Cluster("c", "c-1", "process", "sqlite", "now", tmp_path, ())
    files = tmp_path / "files"
    files.mkdir()
    ledger.write_plan(files, PLAN)
    write_atomically(cluster.directory / "loads" / "load.json", json.dumps({"directory": str(files)}))
    with subprocess.Popen([sys.executable, "-c", "input()", str(files)], stdin=subprocess.PIPE) as process:
        pidfile.take_note(files / "process.json", process.pid, str(files))
        load = backgroundloads.get(cluster, "load")
        assert load.running
        with pytest.raises(LoadRuns, match="under way"):
            backgroundloads.start(cluster, PLAN, None)
        assert backgroundloads.stop(load)
        assert not load.running
        assert not backgroundloads.stop(load), "to stop it again does nothing"


async def test_a_load_that_cannot_be_noted_sends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _text: str) -> None:
        raise MachineRefused(f"{path} cannot be written: No space left on device")

    monkeypatch.setattr(pidfile, "write_atomically", full)
    with pytest.raises(MachineRefused, match=r"process\.json cannot be written"):
        await background.work(tmp_path, PLAN)


def test_a_load_whose_starter_was_killed_is_known_by_what_it_notes_itself(tmp_path: Path) -> None:
    cluster = Cluster("c", "c-1", "process", "sqlite", "now", tmp_path, ())
    files = tmp_path / "files"
    ledger.write_plan(files, PLAN)
    write_atomically(cluster.directory / "loads" / "load.json", json.dumps({"directory": str(files)}))
    assert [load.running for load in backgroundloads.listed(cluster)] == [False]
    note = "import sys; from pathlib import Path; from esctl.bench import backgroundloads;"
    note += "backgroundloads.note_self(Path(sys.argv[1])); print('there', flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", note, str(files)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        (load,) = backgroundloads.listed(cluster)
        assert load.running
        assert load.as_data()["pid"] == process.pid
        process.communicate()


def test_loads_that_are_under_way_are_listed_of_every_cluster_or_of_one(make_fakes: Any) -> None:
    one, two = make_fakes("one").cluster, make_fakes("two").cluster
    for cluster, name in ((one, "load"), (one, "old"), (two, "load")):
        files = cluster.directory / "files" / name
        ledger.write_plan(files, replace(PLAN, name=name, cluster=cluster.name, begun=time.time()))
        write_atomically(cluster.directory / "loads" / f"{name}.json", json.dumps({"directory": str(files)}))
        if name == "load":
            pidfile.take_note(files / "process.json", os.getpid(), Path(sys.executable).name)
    found = Run("bench", "ls", "-o", "json").data["loads"]
    assert [(load["cluster"], load["load"], load["running"]) for load in found] == [
        ("one", "load", True),
        ("two", "load", True),
    ]
    assert 0 < found[0]["left_s"] <= PLAN.seconds
    every = Run("bench", "ls", "--all", "-c", "one", "-o", "json").data["loads"]
    assert [(load["load"], load["running"], load["left_s"] > 0) for load in every] == [
        ("load", True, True),
        ("old", False, False),
    ]
    assert (
        "no load is under way"
        in Run("bench", "ls", "-o", "table", "-c", make_fakes("three").cluster.name).out
    )


UNDATED = json.dumps({**asdict(PLAN), "begun": "soon"})


@pytest.mark.parametrize("damage", ["", "{}", "[" * 100_000, "null", UNDATED])
def test_one_broken_plan_does_not_hide_the_other_loads(make_fakes: Any, damage: str) -> None:
    for name in ("bad", "good"):
        cluster = make_fakes(name).cluster
        files = cluster.directory / "files"
        ledger.write_plan(files, replace(PLAN, cluster=name, begun=time.time()))
        write_atomically(cluster.directory / "loads" / "load.json", json.dumps({"directory": str(files)}))
        pidfile.take_note(files / "process.json", os.getpid(), Path(sys.executable).name)
        if name == "bad":
            (files / ledger.PLAN).write_text(damage)
    run = Run("bench", "ls", "-o", "json")
    assert run.code == 1
    assert [load["cluster"] for load in run.document["data"]["loads"]] == ["good"]
    (error,) = run.document["errors"]
    assert "bad/files/plan.json" in error["message"]
    shutil.rmtree(state.clusters_root() / "bad" / "files")
    assert Run("bench", "ls", "--all").code == 0, "whose files are deleted is no load any more"
