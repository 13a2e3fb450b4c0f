"""Snapshots as outlines: with the chunks of keys that they name, they are the whole machine."""

from dataclasses import replace

import pytest

from esnode.apply import Machine, sealed_in, whole_bytes, whole_state
from esnode.dedup.keywindow import CHUNK_KEYS, missing_chunks
from esnode.errors import DamagedRecord
from esnode.raft.messages import Snapshot
from esnode.storage.interface import Identity
from esnode.storage.memory import MemoryDisk, MemoryStorage
from tests.upkeep.test_recovery import DEDUP, applied, log_of


def outlined(events: int) -> tuple[Machine, Snapshot, MemoryStorage]:
    """A machine of so many events, its outline, and a storage with the chunks that this names."""
    machine = applied(log_of([1_000] * (events // 1_000) + [events % 1_000]))
    snapshot = machine.outline()
    storage = MemoryStorage(MemoryDisk(), Identity("test", 1))
    sealed = sealed_in(snapshot.data)
    assert missing_chunks(sealed, storage) == list(range(sealed.first_chunk, sealed.end_chunk))
    for number in missing_chunks(sealed, storage):
        storage.keep_keys(number, [machine.keys.sealed_chunk(number)])
    assert missing_chunks(sealed, storage) == []
    return machine, snapshot, storage


@pytest.mark.parametrize("events", [3 * CHUNK_KEYS + 5, 2 * CHUNK_KEYS, 100])
def test_an_outline_and_its_chunks_are_the_whole_snapshot(events: int) -> None:
    machine, snapshot, storage = outlined(events)
    again = Machine(DEDUP)
    again.restore(snapshot, storage)
    assert again.digest() == machine.digest()
    whole = b"".join(whole_state(snapshot.data, storage))
    assert whole == machine.snapshot().data
    assert len(whole) == whole_bytes(snapshot.data)


def test_a_snapshot_with_all_its_keys_needs_no_chunks() -> None:
    machine, _, storage = outlined(3 * CHUNK_KEYS)
    whole = machine.snapshot().data
    assert not sealed_in(whole).digests
    assert not sealed_in(b"").digests
    assert b"".join(whole_state(whole, storage)) == whole


def test_an_outline_without_its_chunks_is_damaged() -> None:
    machine, snapshot, _ = outlined(3 * CHUNK_KEYS)
    empty = MemoryStorage(MemoryDisk(), Identity("test", 1))
    for stored in (None, empty):
        with pytest.raises(DamagedRecord):
            Machine(DEDUP).restore(snapshot, stored)
    with pytest.raises(DamagedRecord):
        list(whole_state(snapshot.data, empty))
    with pytest.raises(DamagedRecord, match="ends within its head"):
        sealed_in(snapshot.data[:5])
    with pytest.raises(DamagedRecord, match="not what its head says"):
        machine.restore(replace(snapshot, data=snapshot.data[:-1]), empty)


def test_a_chunk_that_is_not_the_one_that_was_named_is_found() -> None:
    machine, snapshot, storage = outlined(3 * CHUNK_KEYS)
    sealed = sealed_in(snapshot.data)
    last = sealed.end_chunk - 1
    wrong = bytearray(machine.keys.sealed_chunk(last))
    wrong[7] ^= 1
    storage.keep_keys(last, [memoryview(wrong)])
    assert missing_chunks(sealed, storage) == [last]
    with pytest.raises(DamagedRecord):
        Machine(DEDUP).restore(snapshot, storage)
    with pytest.raises(DamagedRecord, match=f"chunk {last} of the keys is not the one"):
        list(whole_state(snapshot.data, storage))


def test_a_window_that_is_not_full_reaches_back_its_whole_time() -> None:
    machine = applied(log_of([10, 10, 10]))
    assert machine.keys.reach_ms(machine.log_time_ms) == DEDUP.ttl_ms
