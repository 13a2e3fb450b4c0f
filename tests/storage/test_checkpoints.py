"""Savepoints on every engine: what comes back, what goes, what damage is, and what a crash leaves."""

from dataclasses import replace

import pytest

from esnode.apply import Savepoint
from esnode.dedup.keywindow import CHUNK_BYTES
from esnode.errors import DamagedRecord, StorageFailed
from esnode.storage.files import write_all
from esnode.storage.interface import Distrust, Storage
from esnode.storage.savepoints import FILE_CHUNKS, pack_savepoint, unpack_savepoint
from tests.storage.logs import entries, write
from tests.storage.places import DirectoryPlace, Place
from tests.storage.test_rejoin import begin

FIRST = Savepoint(3, 1, 30, 254, 257, b"the state after entry 3")
SECOND = Savepoint(5, 1, 50, 256, 259, b"the state after entry 5")


def chunks(first: int, end: int) -> list[bytes]:
    """Chunks that tell their numbers."""
    return [number.to_bytes(8, "big") * (CHUNK_BYTES // 8) for number in range(first, end)]


def keep(storage: Storage, savepoint: Savepoint) -> None:
    storage.keep_keys(savepoint.first_chunk, chunks(savepoint.first_chunk, savepoint.open_chunk))
    storage.keep_savepoint(savepoint)


def kept(storage: Storage, savepoint: Savepoint) -> list[bytes]:
    return list(storage.kept_keys(savepoint.first_chunk, savepoint.open_chunk))


def test_a_new_directory_has_no_savepoint(place: Place) -> None:
    storage = place.open()
    for opened in place.twice(storage):
        assert opened.load_savepoint() is None


def test_a_savepoint_and_its_chunks_come_back(place: Place) -> None:
    storage = place.open()
    storage.write([write(entries(1, [1, 2, 3]), commit=3)])
    found = storage.recover()
    keep(storage, FIRST)
    for opened in place.twice(storage):
        assert opened.load_savepoint() == FIRST
        assert kept(opened, FIRST) == chunks(254, 257)
        assert list(opened.kept_keys(7, 7)) == []
        assert opened.recover() == found


def test_a_later_savepoint_needs_only_the_chunks_that_came_since(place: Place) -> None:
    storage = place.open()
    keep(storage, FIRST)
    storage.keep_keys(257, chunks(257, 259))
    assert storage.load_savepoint() == FIRST
    storage.keep_savepoint(SECOND)
    for opened in place.twice(storage):
        assert opened.load_savepoint() == SECOND
        assert kept(opened, SECOND) == chunks(256, 259)


def test_chunks_that_no_savepoint_needs_are_let_go(place: Place) -> None:
    storage = place.open()
    keep(storage, FIRST)
    keep(storage, SECOND)
    with pytest.raises(DamagedRecord, match="missing"):
        list(storage.kept_keys(255, 256))


def test_a_chunk_that_was_never_kept_is_missing(place: Place) -> None:
    storage = place.open()
    keep(storage, FIRST)
    for first, end in ((256, 258), (FILE_CHUNKS * 9, FILE_CHUNKS * 9 + 1)):
        with pytest.raises(DamagedRecord):
            list(storage.kept_keys(first, end))


def test_chunks_may_be_kept_again(place: Place) -> None:
    storage = place.open()
    keep(storage, FIRST)
    storage.keep_keys(255, chunks(255, 257))
    assert kept(place.reopened(storage), FIRST) == chunks(254, 257)


def test_a_log_that_is_put_aside_takes_its_savepoint_along(place: Place) -> None:
    storage = place.open()
    storage.write([write(entries(1, [1, 2, 3]), commit=3)])
    keep(storage, FIRST)
    place.close()
    begin(place, Distrust.COPY)
    storage = place.open()
    assert storage.load_savepoint() == FIRST
    storage.close()
    begin(place, Distrust.DAMAGE)
    storage = place.open()
    assert storage.load_savepoint() is None
    with pytest.raises(DamagedRecord):
        kept(storage, FIRST)


def test_a_savepoint_with_a_bit_flipped_anywhere_is_no_savepoint() -> None:
    packed = pack_savepoint(FIRST)
    assert unpack_savepoint(packed) == FIRST
    for at in range(len(packed)):
        flipped = packed[:at] + bytes([packed[at] ^ (1 << at % 8)]) + packed[at + 1 :]
        with pytest.raises(DamagedRecord):
            unpack_savepoint(flipped)
        with pytest.raises(DamagedRecord):
            unpack_savepoint(packed[:at])


def test_a_damaged_savepoint_is_told_and_the_log_stays_as_good(on_disk: DirectoryPlace) -> None:
    storage = on_disk.open()
    storage.write([write(entries(1, [1, 2, 3]), commit=3)])
    keep(storage, FIRST)
    storage.close()
    path = on_disk.path / "savepoint"
    path.write_bytes(path.read_bytes()[:-1])
    storage = on_disk.open()
    with pytest.raises(DamagedRecord):
        storage.load_savepoint()
    assert len(storage.read(1, 3, 1 << 20)) == 3
    keep(storage, SECOND)
    assert storage.load_savepoint() == SECOND


def test_a_file_of_keys_that_is_cut_short_is_damage(on_disk: DirectoryPlace) -> None:
    storage = on_disk.open()
    keep(storage, FIRST)
    path = on_disk.path / "keys-1"
    assert path.stat().st_size == CHUNK_BYTES
    with path.open("r+b") as file:
        file.truncate(CHUNK_BYTES - 1)
    with pytest.raises(DamagedRecord, match="cut short"):
        kept(storage, FIRST)


def test_a_write_that_ends_half_way_leaves_the_savepoint_before_it(
    on_disk: DirectoryPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = on_disk.open()
    keep(storage, FIRST)

    def half(descriptor: int, piece: bytes) -> None:
        write_all(descriptor, piece[: len(piece) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("esnode.storage.savepoints.write_all", half)
    with pytest.raises(StorageFailed, match="No space"):
        storage.keep_savepoint(SECOND)
    with pytest.raises(StorageFailed, match="No space"):  # no error of the disk is passed over
        storage.write([write(entries(1, [1]))])
    monkeypatch.undo()
    storage.close()
    storage = on_disk.open()
    assert storage.load_savepoint() == FIRST
    assert kept(storage, FIRST) == chunks(254, 257)
    storage.keep_savepoint(replace(FIRST, index=4))
    assert storage.load_savepoint() == replace(FIRST, index=4)


def test_a_thread_that_was_given_up_writes_nothing_once_the_directory_is_closed(
    on_disk: DirectoryPlace,
) -> None:
    storage = on_disk.open()
    keep(storage, FIRST)
    files = on_disk.path / "savepoint", on_disk.path / "keys-0"
    before = [path.read_bytes() for path in files]
    directory = storage._home  # type: ignore[attr-defined]
    storage.close()
    directory.savepoints.keep(SECOND)
    directory.savepoints.keep_keys(0, chunks(0, 1))
    assert [path.read_bytes() for path in files] == before
