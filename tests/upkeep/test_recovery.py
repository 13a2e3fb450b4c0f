"""A start: from a checkpoint or without, it leads to the same node; what was not read then is read later."""

import logging
import random
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from esnode import limits
from esnode.apply import Checkpoint, Machine
from esnode.client import connect
from esnode.config import Dedup
from esnode.dedup.keywindow import CHUNK_BYTES, CHUNK_KEYS
from esnode.errors import DamagedRecord
from esnode.raft.entry import Entry, EntryKind
from esnode.raft.messages import HardState, Snapshot, Write
from esnode.storage.checkpoints import MemoryCheckpoints
from esnode.storage.interface import Identity, Storage
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.worker import StorageWorker
from esnode.upkeep.checkpointer import Checkpointer, store_chunks
from esnode.upkeep.recovery import Found, recover
from esnode.upkeep.scrub import Scrub
from tests.cluster import local_cluster
from tests.dedup.events import batch, entry, key
from tests.storage.logs import write
from tests.storage.places import damage_sqlite_record
from tests.test_node import flights, records_of

US = Identity("test", 1)
DEDUP = Dedup.of_keys(20_000, ttl_ms=640_000)


def log_of(sizes: Sequence[int], first_index: int = 1, offset: int = 0) -> list[Entry]:
    log: list[Entry] = []
    for index, size in enumerate(sizes, start=first_index):
        kind = EntryKind.BATCH if size else EntryKind.NOOP
        content = batch(range(offset, offset + size)) if size else None
        log.append(entry(index, offset, content, kind=kind, term=1 + index // 7, log_time_ms=10 * index))
        offset += size
    return log


def stored(log: Sequence[Entry], commit: int) -> MemoryStorage:
    storage = MemoryStorage(MemoryDisk(), US)
    storage.write([Write(1, None, HardState(log[-1].term, None), tuple(log), commit)])
    return storage


def applied(log: Sequence[Entry], dedup: Dedup = DEDUP) -> Machine:
    machine = Machine(dedup)
    for each in log:
        machine.apply(each)
    return machine


def keep(storage: Storage, machine: Machine) -> None:
    """As the node does it."""
    pending = Checkpointer(machine, storage, None).begin()
    storage.keep_keys(pending.first_chunk, pending.chunks)
    storage.save_checkpoint(pending.checkpoint)


def sealed_of(storage: Storage, checkpoint: Checkpoint) -> Iterator[bytes]:
    return storage.kept_keys(checkpoint.first_chunk, checkpoint.open_chunk)


def started(storage: Storage, dedup: Dedup = DEDUP) -> tuple[Found, Machine]:
    machine = Machine(dedup, seed=5)
    return recover(storage, machine), machine


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "esnode.upkeep.recovery"]


# --- what a start finds -----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 64, 1_000]), min_size=3, max_size=30),
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_a_start_from_a_checkpoint_is_a_start_without_one(
    sizes: list[int], saved: int, hint: int, cut: int
) -> None:
    log = log_of(sizes)
    saved, hint, cut = min(saved, len(log)), min(hint, len(log)), min(cut, len(log))
    storage = stored(log, hint)
    if saved:
        keep(storage, applied(log[:saved]))
    if cut:
        storage.cut_prefix(applied(log[:cut]).snapshot())
    found, machine = started(storage)
    committed = max(saved, hint, cut)
    assert (found.log.applied, found.log.last_index) == (committed, len(log))
    assert found.first_offset == (log[cut - 1].next_offset if cut else 0)
    assert (found.checkpoint is not None) == (saved > cut)
    assert machine.digest() == applied(log[:committed]).digest()
    asked = [key(number) for number in range(0, machine.next_offset + 5, 7)]
    assert machine.keys.lookup(asked) == applied(log[:committed]).keys.lookup(asked)
    assert [each.index for each in found.log.unapplied()] == list(range(committed + 1, len(log) + 1))


def test_what_was_applied_is_committed_though_the_disk_was_not_told() -> None:
    log = log_of([1] * 9)
    storage = stored(log, commit=2)
    keep(storage, applied(log[:6]))
    found, machine = started(storage)
    assert (found.log.committed, machine.applied_index) == (6, 6)


def test_only_what_follows_the_checkpoint_is_read() -> None:
    log = log_of([3] * 40)
    storage = stored(log, commit=40)
    keep(storage, applied(log[:30]))
    read: list[int] = []
    plain = storage.read

    def noted(first_index: int, last_index: int, max_bytes: int) -> list[Entry]:
        page = plain(first_index, last_index, max_bytes)
        read.extend(each.index for each in page)
        return page

    storage.read = noted  # type: ignore[method-assign]
    started(storage)
    assert read == list(range(31, 41))


def test_each_part_of_a_start_is_told_with_its_time(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "esnode.upkeep.recovery")
    log = log_of([3] * 40)
    storage = stored(log, commit=40)
    clock = count(10.0, 0.25)
    recover(storage, Machine(DEDUP), lambda: next(clock))
    assert told(caplog) == ["log_replayed", "keys_indexed"]
    caplog.clear()
    keep(storage, applied(log[:30]))
    recover(storage, Machine(DEDUP), lambda: next(clock))
    assert told(caplog) == ["savepoint_loaded", "log_replayed", "keys_indexed"]
    fields: list[Any] = [record.__dict__ for record in caplog.records]
    assert (fields[0]["savepoint_index"], fields[0]["live_keys"]) == (30, 90)
    assert fields[1]["entries"] == 10
    assert [each["seconds"] for each in fields] == [0.25] * 3
    caplog.clear()
    storage.cut_prefix(applied(log[:35]).snapshot())
    recover(storage, Machine(DEDUP), lambda: next(clock))
    assert told(caplog) == ["snapshot_loaded", "log_replayed", "keys_indexed"]


# --- checkpoints that are of no use, and one that says what was lost ---------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_a_checkpoint_with_a_bit_flipped_costs_a_replay_and_nothing_else(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    log = log_of([1_000] * 12)
    storage = stored(log, commit=12)
    keep(storage, applied(log[:10]))
    kept = storage._home.checkpoints
    assert isinstance(kept, MemoryCheckpoints)
    (kept.flip_bit_of_keys if seed % 2 else kept.flip_bit)(random.Random(seed))
    found, machine = started(storage)
    assert told(caplog) == ["savepoint_unusable"]
    assert found.checkpoint is None
    assert machine.digest() == applied(log).digest()


def test_a_checkpoint_made_under_other_settings_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    log = log_of([100] * 12)
    storage = stored(log, commit=12)
    keep(storage, applied(log, Dedup.of_keys(500, DEDUP.ttl_ms)))
    found, machine = started(storage)
    assert told(caplog) == ["savepoint_unusable"]
    assert (found.checkpoint, machine.keys.live) == (None, 1_200)


def test_a_log_that_ends_before_the_checkpoint_has_lost_its_end() -> None:
    log = log_of([1] * 9)
    storage = stored(log[:7], commit=5)
    keep(storage, applied(log))
    with pytest.raises(DamagedRecord, match="ends with entry 7"):
        started(storage)


def test_a_log_with_another_entry_at_the_checkpoint_is_not_the_one_that_was_applied() -> None:
    log = log_of([1] * 9)
    storage = stored([replaced_term(each, 9) for each in log], commit=5)
    keep(storage, applied(log[:7]))
    with pytest.raises(DamagedRecord, match="entry 7 of term 2 was applied"):
        started(storage)


def replaced_term(one: Entry, term: int) -> Entry:
    numbers = range(one.base_offset, one.next_offset)
    return entry(one.index, one.base_offset, batch(numbers), term=term, log_time_ms=one.log_time_ms)


# --- keeping them -----------------------------------------------------------------------------------


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are due at once, and nothing is hurried slowly."""
    monkeypatch.setattr(limits, "CHECKPOINT_ENTRIES", 1)
    monkeypatch.setattr(limits, "CHECKPOINT_CHECK_S", 0.01)
    monkeypatch.setattr(limits, "CHECKPOINT_PAUSE_S", 0.0)
    monkeypatch.setattr(limits, "SCRUB_PAUSE_S", 0.0)


def test_a_checkpoint_is_due_after_so_many_entries_or_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_of([4] * 20)
    size_bytes = log[10].size_bytes
    monkeypatch.setattr(limits, "CHECKPOINT_ENTRIES", 5)
    monkeypatch.setattr(limits, "CHECKPOINT_BYTES", 1 << 30)
    storage, machine = stored(log[:1], 0), Machine(DEDUP)
    checkpointer = Checkpointer(machine, storage, None)
    due = []
    for number, each in enumerate(log[:10]):
        if number:
            storage.write([write([each], commit=number)])
        machine.apply(each)
        due.append(checkpointer._is_due())
        if due[-1]:
            checkpointer.begin()
    assert due == [False] * 4 + [True] + [False] * 4 + [True]
    monkeypatch.setattr(limits, "CHECKPOINT_BYTES", 3 * size_bytes - 10)
    storage.cut_prefix(applied(log[:8]).snapshot())  # the log gets shorter, and counts from there
    due = []
    for each in log[10:14]:
        storage.write([write([each], commit=each.index)])
        due.append(checkpointer._is_due())
    assert due == [False, False, False, True]


def test_each_checkpoint_brings_only_the_chunks_that_came_since() -> None:
    log = log_of([1_000] * 40)
    storage, machine = stored(log, 40), Machine(DEDUP)
    checkpointer = Checkpointer(machine, storage, None)
    brought = []
    for each in log:
        machine.apply(each)
        if each.index % 8 == 0:
            pending = checkpointer.begin()
            brought.append((pending.first_chunk, len(pending.chunks)))
            stored_chunks = store_chunks(storage, pending.first_chunk, pending.chunks)
            checkpointer.release(pending.first_chunk, pending.chunks, stored_chunks)
            storage.save_checkpoint(pending.checkpoint)
            checkpointer.written(pending)
            assert started(storage)[1].digest() == applied(log).digest()
    chunks = [8_000 * n // CHUNK_KEYS for n in range(6)]
    assert brought == [(chunks[n], chunks[n + 1] - chunks[n]) for n in range(5)]


def test_a_window_that_came_from_elsewhere_is_kept_whole() -> None:
    log = log_of([1_000] * 40)
    storage, machine = stored(log[:10], 10), applied(log[:10])
    checkpointer = Checkpointer(machine, storage, None)
    checkpointer.written(checkpointer.begin())
    machine.restore(applied(log).snapshot())
    pending = checkpointer.begin()
    assert pending.first_chunk == machine.keys.first_chunk
    assert pending.first_chunk + len(pending.chunks) == machine.keys.open_chunk


async def test_a_checkpoint_in_pieces_is_the_state_at_its_beginning(eager: None) -> None:
    log = log_of([1_000] * 300)
    storage = stored(log, 100)
    machine = applied(log[:200], Dedup.of_keys(10**6, DEDUP.ttl_ms))
    worker = StorageWorker(storage)
    checkpointer = Checkpointer(machine, storage, None)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        async with trio.open_nursery() as both:
            both.start_soon(checkpointer.take, worker)
            for each in log[200:]:
                await trio.lowlevel.checkpoint()
                machine.apply(each)
        checkpoint = storage.load_checkpoint()
        assert checkpoint is not None
        assert machine.keys.stored_bytes == len(list(sealed_of(storage, checkpoint))) * CHUNK_BYTES > 0
        again = Machine(Dedup.of_keys(10**6, DEDUP.ttl_ms))
        again.resume(checkpoint, sealed_of(storage, checkpoint), storage.chunk_source)
        nursery.cancel_scope.cancel()
    assert 200 <= again.applied_index <= 300
    assert again.digest() == applied(log[: again.applied_index], Dedup.of_keys(10**6, DEDUP.ttl_ms)).digest()


# --- reading the rest -------------------------------------------------------------------------------


async def scrubbed(storage: MemoryStorage, last_index: int) -> int:
    """What `Scrub` reads; the number of entries."""
    read = 0
    plain = storage.read

    def noted(first_index: int, last_index: int, max_bytes: int) -> list[Entry]:
        nonlocal read
        page = plain(first_index, last_index, max_bytes)
        read += len(page)
        return page

    storage.read = noted  # type: ignore[method-assign]
    worker = StorageWorker(storage)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await Scrub(worker, last_index).run()
        nursery.cancel_scope.cancel()
    return read


async def test_the_scrub_reads_what_the_start_did_not(eager: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCRUB_PAGE_BYTES", 1_000)
    log = log_of([3] * 40)
    assert await scrubbed(stored(log, 40), 30) == 30
    assert await scrubbed(stored(log, 40), 0) == 0
    storage = stored(log, 40)
    storage.cut_prefix(applied(log[:10]).snapshot())
    assert await scrubbed(storage, 30) == 20


async def test_the_scrub_goes_on_after_a_prefix_that_is_cut_meanwhile(eager: None) -> None:
    log = log_of([3] * 40)
    storage = stored(log, 40)
    cuts: Iterator[Snapshot] = iter([applied(log[:20]).snapshot()])
    plain = storage.read

    def cut_first(first_index: int, last_index: int, max_bytes: int) -> list[Entry]:
        for snapshot in cuts:
            storage.cut_prefix(snapshot)
        return plain(first_index, last_index, max_bytes)

    storage.read = cut_first  # type: ignore[method-assign]
    assert await scrubbed(storage, 30) == 10


async def test_the_scrub_finds_damage_in_the_log_and_in_the_snapshot(eager: None) -> None:
    log = log_of([3] * 40)
    storage = stored(log, 40)
    place = storage._disk.cache.index(log[4].record[-20:])
    storage._disk.flip_bit_at(8 * place)
    with pytest.raises(ExceptionGroup) as caught:
        await scrubbed(storage, 30)
    assert caught.group_contains(DamagedRecord)
    storage = stored(log, 40)
    storage.cut_prefix(applied(log[:10]).snapshot())
    storage._disk.flip_bit_of_snapshot(random.Random(1))
    with pytest.raises(ExceptionGroup) as caught:
        await scrubbed(storage, 30)
    assert caught.group_contains(DamagedRecord)


# --- whole nodes ------------------------------------------------------------------------------------


async def test_a_node_starts_from_its_checkpoint_and_all_nodes_agree(
    tmp_path: Path, eager: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with trio.fail_after(60):
        async with local_cluster(tmp_path) as cluster:
            async with connect(cluster.addresses) as log:
                await log.append_many(flights(200))
            await cluster.applied(200)
            leader = await cluster.leader()
            victim = next(node_id for node_id in cluster.running if node_id != leader)
            node = cluster.running[victim].node
            await node.checkpointer.take(node.worker)
            await cluster.kill(victim)
            async with connect(cluster.addresses) as log:
                await log.append_many(flights(300)[200:])
            caplog.clear()
            await cluster.start(victim)
            assert "savepoint_loaded" in told(caplog)
            await cluster.applied(300)
            async with connect(cluster.addresses) as log:
                acks = await log.append_many(flights(300))
            assert [ack.offset for ack in acks] == list(range(300))
            digests = {running.node.machine.digest() for running in cluster.running.values()}
            assert len(digests) == 1
            logs = [await records_of(cluster, node_id) for node_id in cluster.running]
            assert logs[0] == logs[1] == logs[2]


async def test_damage_before_the_checkpoint_is_found_after_the_start_and_repaired(
    tmp_path: Path, eager: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with trio.fail_after(60):
        async with local_cluster(tmp_path) as cluster:
            for begin in range(0, 200, 20):
                async with connect(cluster.addresses) as log:
                    await log.append_many(flights(begin + 20)[begin:])
            await cluster.applied(200)
            leader = await cluster.leader()
            victim = next(node_id for node_id in cluster.running if node_id != leader)
            node = cluster.running[victim].node
            await node.checkpointer.take(node.worker)
            await cluster.kill(victim)
            damage_sqlite_record(cluster.configs[victim].data_dir, 3)
            caplog.clear()
            runs = cluster.runs[victim]
            await cluster.start(victim)
            assert "savepoint_loaded" in told(caplog)
            again = await cluster.wait_run(victim, runs + 2)
            while again.view.rejoining:
                await again.view.wait_changed()
            await cluster.applied(200)
            assert (cluster.configs[victim].data_dir / "damaged-1" / "savepoint").exists()
            logs = [await records_of(cluster, node_id) for node_id in cluster.running]
            assert logs[0] == logs[1] == logs[2]
