"""Snapshots that name their chunks of keys, on every engine: what stays, what may go, what damage is."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from esnode.apply import Machine, sealed_in, whole_bytes, whole_state
from esnode.dedup.keywindow import CHUNK_BYTES, SealedChunks, missing_chunks
from esnode.errors import DamagedRecord
from esnode.raft.messages import HardState, Write
from esnode.storage.checkpoints import FILE_CHUNKS
from esnode.storage.interface import Storage, check_snapshot, whole_snapshot
from esnode.storage.memory import MemoryDisk, MemoryStorage
from tests.storage.places import US, DirectoryPlace, Place
from tests.upkeep.test_recovery import DEDUP, applied, log_of

LOG = log_of([1_000] * 30)


def logged(place: Place) -> Storage:
    storage = place.open()
    storage.write([Write(1, None, HardState(LOG[-1].term, None), tuple(LOG), len(LOG))])
    return storage


def cut(storage: Storage, machine: Machine) -> SealedChunks:
    """As the retention does it."""
    snapshot = machine.outline()
    sealed = sealed_in(snapshot.data)
    for number in missing_chunks(sealed, storage):
        storage.keep_keys(number, [machine.keys.sealed_chunk(number)])
    storage.stage_snapshot(snapshot)
    storage.cut_prefix(snapshot)
    return sealed


def restored(storage: Storage) -> Machine:
    machine, snapshot = Machine(DEDUP), storage.load_snapshot()
    assert snapshot is not None
    machine.restore(snapshot, storage)
    return machine


def on_disk(storage: Storage, numbers: Sequence[int]) -> list[int]:
    found = []
    for number in numbers:
        with suppress(DamagedRecord):
            found += [number for _ in storage.kept_keys(number, number + 1)]
    return found


def test_an_outline_and_its_chunks_are_the_machine_again(place: Place) -> None:
    storage = logged(place)
    machine = applied(LOG[:25])
    sealed = cut(storage, machine)
    assert len(sealed.digests) == 25_000 // 4096 - 5_000 // 4096
    for opened in place.twice(storage):
        again = restored(opened)
        assert again.digest() == machine.digest()
        assert again.keys.stored_bytes == len(sealed.digests) * CHUNK_BYTES
        assert missing_chunks(sealed, opened) == []


def test_the_whole_state_is_what_a_snapshot_with_all_keys_holds(place: Place) -> None:
    storage = logged(place)
    machine = applied(LOG[:25])
    cut(storage, machine)
    with whole_snapshot(storage) as (snapshot, pieces):
        assert snapshot is not None
        whole = b"".join(pieces)
    assert whole == machine.snapshot().data
    assert whole_bytes(snapshot.data) == len(whole)
    assert b"".join(whole_state(whole, storage)) == whole
    again = Machine(DEDUP)
    again.restore(machine.snapshot())
    assert again.digest() == machine.digest()


def test_an_outline_is_small_however_many_keys_there_are() -> None:
    small, large = (len(applied(LOG[:count]).outline().data) for count in (5, 21))
    assert large - small < 8_000
    assert len(applied(LOG[:21]).snapshot().data) > 20_000 * 16


def test_a_second_cut_writes_only_what_is_not_there(place: Place) -> None:
    storage = logged(place)
    first = cut(storage, applied(LOG[:10]))
    kept: list[int] = []
    plain = storage.keep_keys

    def noted(first_chunk: int, chunks: Sequence[bytes | memoryview]) -> None:
        kept.extend(range(first_chunk, first_chunk + len(chunks)))
        plain(first_chunk, chunks)

    storage.keep_keys = noted  # type: ignore[method-assign]
    second = cut(storage, applied(LOG[:20]))
    assert kept == list(range(first.end_chunk, second.end_chunk))


def test_a_crash_before_the_outline_leaves_the_older_snapshot_whole(place: Place) -> None:
    storage = logged(place)
    cut(storage, applied(LOG[:10]))
    later = applied(LOG[:20])
    for number in missing_chunks(sealed_in(later.outline().data), storage):
        storage.keep_keys(number, [later.keys.sealed_chunk(number)])
    opened = place.reopened(storage)
    assert restored(opened).digest() == applied(LOG[:10]).digest()
    opened.stage_snapshot(later.outline())
    assert restored(place.reopened(opened)).digest() == applied(LOG[:10]).digest()


def test_a_snapshot_whose_chunks_are_not_there_is_refused(place: Place) -> None:
    storage = logged(place)
    with pytest.raises(DamagedRecord, match="missing"):
        storage.stage_snapshot(applied(LOG[:20]).outline())
    assert storage.load_snapshot() is None


def test_a_chunk_with_other_keys_is_damage(place: Place) -> None:
    storage = logged(place)
    sealed = cut(storage, applied(LOG[:20]))
    number = sealed.first_chunk + 1
    (chunk,) = storage.kept_keys(number, number + 1)
    storage.keep_keys(number, [chunk[:-1] + bytes([chunk[-1] ^ 1])])
    assert missing_chunks(sealed, storage) == [number]
    with pytest.raises(DamagedRecord):
        restored(storage)
    with pytest.raises(DamagedRecord, match=f"chunk {number}"):
        check_snapshot(storage)


def rolled(machine: Machine) -> Iterator[None]:
    """Let a window go on by many chunks at a time, in few entries."""
    while True:
        (each,) = log_of([16_000], machine.applied_index + 1, machine.next_offset)
        machine.apply(each)
        yield


def test_a_checkpoint_removes_nothing_that_the_snapshot_or_a_holder_needs(place: Place) -> None:
    storage = logged(place)
    machine = applied(LOG)
    sealed = cut(storage, machine)
    for _ in zip(range(70), rolled(machine), strict=False):
        pass
    assert machine.keys.first_chunk > FILE_CHUNKS
    checkpoint = machine.checkpoint()
    storage.keep_keys(checkpoint.first_chunk, machine.keys.sealed_chunks(checkpoint.first_chunk))
    storage.save_checkpoint(checkpoint)
    numbers = range(sealed.first_chunk, sealed.end_chunk)
    for opened in place.twice(storage):
        opened.save_checkpoint(checkpoint)
        assert on_disk(opened, numbers) == list(numbers)
        assert restored(opened).digest() == applied(LOG).digest()
        storage = opened
    whole = machine.snapshot()
    storage.write([Write(2, whole, None, (), whole.index)])  # it has its keys itself
    with storage.holding_keys(0):
        storage.save_checkpoint(checkpoint)
        assert on_disk(storage, numbers) == list(numbers)
    storage.save_checkpoint(checkpoint)
    assert on_disk(storage, numbers) == []


def test_a_chunk_that_a_killed_process_left_in_the_cache_is_synced_before_it_is_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = logged(place)
    if not isinstance(place, DirectoryPlace):
        pytest.skip("it is in memory")
    synced: list[str] = []
    plain = os.fdatasync

    def noted(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        plain(descriptor)

    machine = applied(LOG[:20])
    sealed = sealed_in(machine.outline().data)
    for number in range(sealed.first_chunk, sealed.end_chunk):
        storage.keep_keys(number, [machine.keys.sealed_chunk(number)])
    monkeypatch.setattr(os, "fdatasync", noted)
    storage.stage_snapshot(machine.outline())
    assert synced[0] == "keys-0"


def test_a_crash_of_the_disk_in_memory_leaves_what_its_older_snapshot_needs() -> None:
    """There the record that names a snapshot is durable only after a later sync."""
    disk = MemoryDisk()
    storage = MemoryStorage(disk, US)
    storage.write([Write(1, None, HardState(LOG[-1].term, None), tuple(LOG), len(LOG))])
    machine = applied(LOG[:10])
    sealed = cut(storage, machine)
    later = applied(LOG)
    whole = later.snapshot()
    storage.write_unsynced([Write(2, whole, None, (), whole.index)])
    checkpoint = later.checkpoint()
    storage.keep_keys(checkpoint.first_chunk, later.keys.sealed_chunks(checkpoint.first_chunk))
    storage.save_checkpoint(checkpoint)
    disk.crash()
    again = MemoryStorage(disk, US)
    assert on_disk(again, range(sealed.first_chunk, sealed.end_chunk)) == list(
        range(sealed.first_chunk, sealed.end_chunk)
    )
    assert restored(again).digest() == machine.digest()
