"""Checkpoints on every engine: what comes back, what goes, what damage is, and what a crash leaves."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from esnode.apply import Checkpoint
from esnode.dedup.keywindow import CHUNK_BYTES
from esnode.errors import DamagedRecord, StorageFailed
from esnode.storage.checkpoints import FILE_CHUNKS, pack_checkpoint, unpack_checkpoint
from esnode.storage.files import write_all
from esnode.storage.interface import Distrust, Storage
from tests.storage.logs import entries, write
from tests.storage.places import DirectoryPlace, Place
from tests.storage.test_rejoin import begin

FIRST = Checkpoint(3, 1, 30, 254, 257, b"the state after entry 3")
SECOND = Checkpoint(5, 1, 50, 256, 259, b"the state after entry 5")


def chunks(first: int, end: int) -> list[bytes]:
    """Chunks that tell their numbers."""
    return [number.to_bytes(8, "big") * (CHUNK_BYTES // 8) for number in range(first, end)]


def keep(storage: Storage, checkpoint: Checkpoint) -> None:
    storage.keep_keys(checkpoint.first_chunk, chunks(checkpoint.first_chunk, checkpoint.open_chunk))
    storage.save_checkpoint(checkpoint)


def kept(storage: Storage, checkpoint: Checkpoint) -> list[bytes]:
    return list(storage.kept_keys(checkpoint.first_chunk, checkpoint.open_chunk))


def test_a_new_directory_has_no_checkpoint(place: Place) -> None:
    storage = place.open()
    for opened in place.twice(storage):
        assert opened.load_checkpoint() is None


def test_a_checkpoint_and_its_chunks_come_back(place: Place) -> None:
    storage = place.open()
    storage.write([write(entries(1, [1, 2, 3]), commit=3)])
    found = storage.recover()
    keep(storage, FIRST)
    for opened in place.twice(storage):
        assert opened.load_checkpoint() == FIRST
        assert kept(opened, FIRST) == chunks(254, 257)
        assert list(opened.kept_keys(7, 7)) == []
        assert opened.recover() == found


def test_a_later_checkpoint_needs_only_the_chunks_that_came_since(place: Place) -> None:
    storage = place.open()
    keep(storage, FIRST)
    storage.keep_keys(257, chunks(257, 259))
    assert storage.load_checkpoint() == FIRST
    storage.save_checkpoint(SECOND)
    for opened in place.twice(storage):
        assert opened.load_checkpoint() == SECOND
        assert kept(opened, SECOND) == chunks(256, 259)


def test_chunks_that_no_checkpoint_needs_are_let_go(place: Place) -> None:
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


def test_a_log_that_is_put_aside_takes_its_checkpoint_along(place: Place) -> None:
    storage = place.open()
    storage.write([write(entries(1, [1, 2, 3]), commit=3)])
    keep(storage, FIRST)
    place.close()
    begin(place, Distrust.COPY)
    storage = place.open()
    assert storage.load_checkpoint() == FIRST
    storage.close()
    begin(place, Distrust.DAMAGE)
    storage = place.open()
    assert storage.load_checkpoint() is None
    with pytest.raises(DamagedRecord):
        kept(storage, FIRST)


def test_a_checkpoint_with_a_bit_flipped_anywhere_is_no_checkpoint() -> None:
    packed = pack_checkpoint(FIRST)
    assert unpack_checkpoint(packed) == FIRST
    for at in range(len(packed)):
        flipped = packed[:at] + bytes([packed[at] ^ (1 << at % 8)]) + packed[at + 1 :]
        with pytest.raises(DamagedRecord):
            unpack_checkpoint(flipped)
        with pytest.raises(DamagedRecord):
            unpack_checkpoint(packed[:at])


def test_a_damaged_checkpoint_is_told_and_the_log_stays_as_good(on_disk: DirectoryPlace) -> None:
    storage = on_disk.open()
    storage.write([write(entries(1, [1, 2, 3]), commit=3)])
    keep(storage, FIRST)
    storage.close()
    path = on_disk.path / "savepoint"
    path.write_bytes(path.read_bytes()[:-1])
    storage = on_disk.open()
    with pytest.raises(DamagedRecord):
        storage.load_checkpoint()
    assert len(storage.read(1, 3, 1 << 20)) == 3
    keep(storage, SECOND)
    assert storage.load_checkpoint() == SECOND


def test_a_part_of_a_chunk_is_read_where_it_is(place: Place) -> None:
    storage = place.open()
    keep(storage, FIRST)
    for number in range(FIRST.first_chunk, FIRST.open_chunk):
        source = storage.chunk_source(number)
        (chunk,) = chunks(number, number + 1)
        assert source.read(8_192, 4_096) == chunk[:4_096]
        assert source.read_cached(4_096, 4_096) == chunk[:4_096]  # it was written a moment ago


def test_a_chunk_that_is_not_there_is_damage(place: Place) -> None:
    storage = place.open()
    with pytest.raises(DamagedRecord, match="missing"):
        storage.chunk_source(7).read(0, 16)


def test_a_chunk_is_read_though_its_file_was_deleted(on_disk: DirectoryPlace) -> None:
    storage = on_disk.open()
    keep(storage, FIRST)
    source = storage.chunk_source(254)
    keep(storage, SECOND)
    assert not (on_disk.path / "keys-0").exists()
    assert source.read(0, 8) == (254).to_bytes(8, "big")


def test_what_the_system_does_not_tell_is_read_and_a_page_that_is_not_cached_is_not(
    on_disk: DirectoryPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = on_disk.open()
    keep(storage, FIRST)
    source = storage.chunk_source(254)

    def fail(error: OSError) -> Callable[..., int]:
        def preadv(*_: object) -> int:
            raise error

        return preadv

    monkeypatch.setattr(os, "preadv", fail(BlockingIOError()))
    assert source.read_cached(0, 8) is None
    monkeypatch.setattr(os, "preadv", fail(OSError(errno.EOPNOTSUPP, "not supported")))
    assert source.read_cached(0, 8) == (254).to_bytes(8, "big")
    with (on_disk.path / "keys-0").open("r+b") as file:
        file.truncate(0)
    with pytest.raises(DamagedRecord, match="keys-0 is cut short"):
        source.read(0, 8)


def test_a_file_of_keys_that_is_cut_short_is_damage(on_disk: DirectoryPlace) -> None:
    storage = on_disk.open()
    keep(storage, FIRST)
    path = on_disk.path / "keys-1"
    assert path.stat().st_size == CHUNK_BYTES
    with path.open("r+b") as file:
        file.truncate(CHUNK_BYTES - 1)
    with pytest.raises(DamagedRecord, match="cut short"):
        kept(storage, FIRST)


def test_a_write_that_ends_half_way_leaves_the_checkpoint_before_it(
    on_disk: DirectoryPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = on_disk.open()
    keep(storage, FIRST)

    def half(descriptor: int, piece: bytes) -> None:
        write_all(descriptor, piece[: len(piece) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("esnode.storage.checkpoints.write_all", half)
    with pytest.raises(StorageFailed, match="No space"):
        storage.save_checkpoint(SECOND)
    with pytest.raises(StorageFailed, match="No space"):  # no error of the disk is passed over
        storage.write([write(entries(1, [1]))])
    monkeypatch.undo()
    storage.close()
    storage = on_disk.open()
    assert storage.load_checkpoint() == FIRST
    assert kept(storage, FIRST) == chunks(254, 257)
    storage.save_checkpoint(replace(FIRST, index=4))
    assert storage.load_checkpoint() == replace(FIRST, index=4)


def test_a_thread_that_was_given_up_writes_nothing_once_the_directory_is_closed(
    on_disk: DirectoryPlace,
) -> None:
    storage = on_disk.open()
    keep(storage, FIRST)
    files = on_disk.path / "savepoint", on_disk.path / "keys-0"
    before = [path.read_bytes() for path in files]
    directory = storage._home  # type: ignore[attr-defined]
    storage.close()
    directory.checkpoints.keep(SECOND)
    directory.checkpoints.keep_keys(0, chunks(0, 1))
    assert [path.read_bytes() for path in files] == before


# --- indexes ----------------------------------------------------------------------------------------


def index(storage: Storage, end_chunk: int, length: int) -> bytes | None:
    source = storage.index_source(end_chunk)
    return None if source is None else source.read(0, length)


def test_an_index_comes_back_and_may_be_kept_again(place: Place) -> None:
    storage = place.open()
    assert storage.index_source(256) is None
    storage.keep_index(256, [b"an ", b"index"])
    for opened in place.twice(storage):
        assert index(opened, 256, 8) == b"an index"
        assert index(opened, 257, 8) is None
        storage = opened
    storage.keep_index(256, [b"another"])
    source = storage.index_source(256)
    assert source is not None
    assert source.read(2, 3) == b"oth"
    assert source.read_cached(2, 3) == b"oth"
    with pytest.raises(DamagedRecord, match="cut short"):
        source.read(2, 9)


def test_an_index_goes_with_its_chunks(place: Place) -> None:
    storage = place.open()
    keep(storage, FIRST)
    for end_chunk in (255, 256, 257):
        storage.keep_index(end_chunk, [b"index"])
    source = storage.index_source(256)
    assert source is not None
    keep(storage, SECOND)
    assert [index(storage, end_chunk, 5) for end_chunk in (255, 256, 257)] == [None, None, b"index"]
    assert source.read(0, 5) == b"index"  # for as long as it is held


def test_an_index_that_was_discarded_is_not_there(place: Place) -> None:
    storage = place.open()
    storage.keep_index(256, [b"index"])
    for _ in range(2):
        source = storage.index_source(256)
        if source is not None:
            source.discard()
            source.discard()
    for opened in place.twice(storage):
        assert opened.index_source(256) is None


def test_a_log_that_is_put_aside_takes_its_indexes_along(place: Place) -> None:
    storage = place.open()
    storage.write([write(entries(1, [1, 2, 3]), commit=3)])
    storage.keep_index(256, [b"index"])
    place.close()
    begin(place, Distrust.DAMAGE)
    assert place.open().index_source(256) is None


def test_an_index_that_is_half_written_is_not_there(
    on_disk: DirectoryPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = on_disk.open()

    def half(descriptor: int, piece: bytes) -> None:
        write_all(descriptor, piece[: len(piece) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("esnode.storage.checkpoints.write_all", half)
    with pytest.raises(StorageFailed, match="No space"):
        storage.keep_index(256, [b"index"])
    monkeypatch.undo()
    storage.close()
    assert on_disk.open().index_source(256) is None
