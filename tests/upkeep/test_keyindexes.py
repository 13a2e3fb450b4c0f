"""Indexes of keys on disk: a start uses those that are whole, and makes the others again."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import trio

from esnode.apply import Machine
from esnode.config import Dedup
from esnode.dedup import keytable
from esnode.dedup.keywindow import CHUNK_KEYS
from esnode.errors import DamagedRecord, StorageFailed
from esnode.storage.checkpoints import MemoryCheckpoints
from esnode.storage.interface import Storage
from esnode.storage.memory import MemoryStorage
from esnode.storage.worker import StorageWorker
from esnode.upkeep.checkpointer import Checkpointer, store_chunks
from esnode.upkeep.keyindexes import index_now
from esnode.upkeep.recovery import Found, recover
from tests.dedup.events import key
from tests.upkeep.test_recovery import eager, log_of, stored

__all__ = ["eager"]

DEDUP = Dedup.of_keys(1_000_000, 640_000)
CHUNKS = 10
LOG = log_of([1_024] * (4 * CHUNKS + 1))


def machine_of(seed: int, dedup: Dedup = DEDUP) -> Machine:
    return Machine(dedup, seed=seed, segment_chunks=2)


def save(storage: Storage, machine: Machine) -> None:
    """A checkpoint and its indexes, as the node keeps them."""
    checkpointer = Checkpointer(machine, storage, None)
    pending = checkpointer.begin()
    kept = store_chunks(storage, pending.first_chunk, pending.chunks)
    checkpointer.release(pending.first_chunk, pending.chunks, kept)
    storage.save_checkpoint(pending.checkpoint)
    index_now(storage, machine.keys)


def checkpoints_of(storage: MemoryStorage) -> MemoryCheckpoints:
    return storage._disk.checkpoints


def started(storage: Storage, seed: int = 2, dedup: Dedup = DEDUP) -> tuple[Found, Machine]:
    machine = machine_of(seed, dedup)
    return recover(storage, machine), machine


def assert_knows(machine: Machine, source: Random) -> None:
    keys = machine.keys
    asked = [source.randrange(keys.first_offset, keys.next_offset) for _ in range(60)]
    strangers = [10**8 + number for number in range(20)]
    found = keys.lookup([key(number) for number in asked + strangers])
    assert found == {key(number): number for number in asked}


@pytest.fixture
def kept() -> MemoryStorage:
    """A node with ten chunks in five segments that are indexed, all of it applied."""
    storage, machine = stored(LOG, len(LOG)), machine_of(1)
    for each in LOG:
        machine.apply(each)
    save(storage, machine)
    assert sorted(checkpoints_of(storage)._indexes) == [2, 4, 6, 8, 10]
    return storage


def reads_of_keys(storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Which chunks are read whole from now on."""
    asked: list[tuple[int, int]] = []
    keys = MemoryCheckpoints.keys

    def noted(self: MemoryCheckpoints, first: int, end: int) -> Iterator[bytes]:
        asked.extend([(first, end)] if first < end else [])
        return keys(self, first, end)

    monkeypatch.setattr(MemoryCheckpoints, "keys", noted)
    return asked


def test_a_start_with_all_indexes_reads_no_keys(kept: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = reads_of_keys(kept, monkeypatch)
    found, machine = started(kept)
    assert found.checkpoint is not None
    assert asked == []
    assert machine.keys.seed == 1  # that of the indexes
    assert not machine.keys.has_full_segment
    assert_knows(machine, Random(1))


def test_a_node_that_goes_on_after_a_start_indexes_what_comes(kept: MemoryStorage) -> None:
    _, machine = started(kept)
    more = log_of([1_024] * 20, LOG[-1].index + 1, LOG[-1].next_offset)
    for each in more:
        machine.apply(replace(each, term=99) if each.term < machine.applied_term else each)
    save(kept, machine)
    assert max(checkpoints_of(kept)._indexes) == 14
    assert_knows(machine, Random(2))


@pytest.mark.parametrize("damage", ["missing", "front", "page", "another seed"])
@pytest.mark.parametrize("end", [2, 6, 10])
def test_an_index_that_is_of_no_use_is_made_again(end: int, damage: str, kept: MemoryStorage) -> None:
    indexes = checkpoints_of(kept)._indexes
    whole = dict(indexes)
    if damage == "missing":
        del indexes[end]
    elif damage == "another seed":
        other, machine = stored(LOG, len(LOG)), machine_of(77)
        for each in LOG:
            machine.apply(each)
        save(other, machine)
        indexes[end] = checkpoints_of(other)._indexes[end]
    else:
        at = 40 if damage == "front" else len(whole[end]) - 9
        indexes[end] = whole[end][:at] + bytes([whole[end][at] ^ 1]) + whole[end][at + 1 :]
    found, machine = started(kept)
    assert found.checkpoint is not None
    assert_knows(machine, Random(3))
    assert damage == "another seed" or indexes == whole


def test_without_any_index_all_are_made_from_the_keys(kept: MemoryStorage) -> None:
    """As at the first start of this version."""
    checkpoints_of(kept)._indexes.clear()
    found, machine = started(kept, seed=9)
    assert found.checkpoint is not None
    assert machine.keys.seed == 9
    assert sorted(checkpoints_of(kept)._indexes) == [2, 4, 6, 8, 10]
    assert_knows(machine, Random(4))


def test_keys_that_are_missing_cost_a_replay(kept: MemoryStorage) -> None:
    checkpoints = checkpoints_of(kept)
    del checkpoints._chunks[5], checkpoints._indexes[6]
    found, machine = started(kept)
    assert found.checkpoint is None
    assert machine.applied_index == len(LOG)
    assert_knows(machine, Random(5))


def test_a_damaged_key_is_told_when_it_is_met_and_the_next_start_replays(kept: MemoryStorage) -> None:
    checkpoints = checkpoints_of(kept)
    checkpoints._chunks[5] = bytes(len(checkpoints._chunks[5]))
    found, machine = started(kept)
    assert found.checkpoint is not None  # its keys were not looked at
    with pytest.raises(DamagedRecord, match="of a chunk of keys"):
        machine.keys.lookup([key(5 * CHUNK_KEYS + 3)])
    found, machine = started(kept)
    assert found.checkpoint is None
    assert_knows(machine, Random(6))
    save(kept, machine)
    found, machine = started(kept)
    assert found.checkpoint is not None
    assert_knows(machine, Random(7))


def test_indexes_that_tell_of_other_keys_are_believed_by_one_start_at_most(kept: MemoryStorage) -> None:
    checkpoints = checkpoints_of(kept)
    del checkpoints._indexes[6]
    checkpoints._chunks[5] = bytes(len(checkpoints._chunks[5]))
    assert started(kept)[0].checkpoint is None
    assert checkpoints._indexes == {}


def test_a_window_that_begins_within_a_segment_is_indexed_from_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dedup = Dedup.of_keys(5 * CHUNK_KEYS, 640_000)
    storage, machine = stored(LOG, len(LOG)), machine_of(1, dedup)
    for each in LOG:
        machine.apply(each)
    assert machine.keys.first_chunk == 5
    save(storage, machine)
    assert sorted(checkpoints_of(storage)._indexes) == [6, 8, 10]
    assert_knows(machine, Random(8))
    found, again = started(storage, dedup=dedup)
    assert found.checkpoint is not None
    assert_knows(again, Random(9))


def test_indexes_go_with_their_chunks() -> None:
    dedup = Dedup.of_keys(5 * CHUNK_KEYS, 640_000)
    storage, machine = stored(LOG, len(LOG)), machine_of(1, dedup)
    for each in LOG:
        machine.apply(each)
        if each.index % 8 == 0:
            save(storage, machine)
    save(storage, machine)
    assert min(checkpoints_of(storage)._indexes) == 6
    assert_knows(machine, Random(9))


def test_keys_of_a_snapshot_are_indexed_once_they_are_stored(kept: MemoryStorage) -> None:
    machine = machine_of(1)
    for each in LOG[:-10]:
        machine.apply(each)
    snapshot = machine.snapshot()
    other = machine_of(3)
    other.restore(snapshot)
    save(kept, other)
    assert other.keys.stored_bytes
    assert not other.keys.has_full_segment
    assert_knows(other, Random(9))


async def test_the_checkpointer_writes_indexes_and_lets_the_fingerprints_grow(
    eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keytable, "FIRST_FINGERPRINTS", 12_000)
    storage, machine = stored(LOG, len(LOG)), machine_of(1)
    worker = StorageWorker(storage)
    checkpointer = Checkpointer(machine, storage, None)
    rows = machine.keys._fingerprints.rows
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        for half in (LOG[:20], LOG[20:]):
            for each in half:
                machine.apply(each)
            await checkpointer.take(worker)
            await checkpointer.index(worker)
        assert sorted(checkpoints_of(storage)._indexes) == [2, 4, 6, 8, 10]
        assert not machine.keys.has_full_segment
        assert machine.keys._fingerprints.rows > rows
        nursery.cancel_scope.cancel()
    assert_knows(machine, Random(1))


async def test_an_index_that_cannot_be_written_ends_the_node(
    eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, machine = stored(LOG, len(LOG)), machine_of(1)
    for each in LOG:
        machine.apply(each)
    keep_index = MemoryCheckpoints.keep_index

    def full(self: MemoryCheckpoints, end_chunk: int, parts: Any) -> None:
        if end_chunk == 4:
            storage._disk.capacity_bytes = 0
        keep_index(self, end_chunk, parts)

    monkeypatch.setattr(MemoryCheckpoints, "keep_index", full)
    worker = StorageWorker(storage)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            nursery.start_soon(Checkpointer(machine, storage, None).run, worker)

    with pytest.raises(ExceptionGroup) as failed:  # of the worker, and of its caller if it was in time
        await run()
    full_disk, others = failed.value.split(StorageFailed)
    assert full_disk is not None
    assert others is None
    assert {str(each) for each in full_disk.exceptions} == {"no space left on the disk"}
