"""The file of a backup: what is written comes back, and no bit of it can be changed in silence."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esctl.verify.history import History
from esnode.backup import file as backup_file
from esnode.backup.chain import ContentHash
from esnode.backup.directory import replay
from esnode.backup.file import BackupReader, BackupWriter
from esnode.backup.manifest import Manifest, SnapshotPlace
from esnode.errors import DamagedBackup, DamagedRecord
from esnode.raft.entry import Entry
from tests.backup.logs import DEDUP, ORIGIN, log_of, machine_of, write_backup

LOG = log_of([3, 1, 4, 1, 5, 9, 2, 6])
CUT = 5
"""What a prefix may be cut to: entries up to this one."""


def entries_of(reader: BackupReader) -> list[Entry]:
    return [entry for page in reader.pages() for entry in page]


def read_all(path: Path) -> None:
    """What `esctl backup verify` does."""
    reader = BackupReader.open(path)
    replay(reader, reader.manifest.origin.dedup, lambda page: None)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks for a small log."""
    monkeypatch.setattr(backup_file, "CHUNK_BYTES", 700)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("cut", [0, CUT])
def test_what_is_written_comes_back_as_the_same_records(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "b"
    snapshot = machine_of(LOG[:cut]).snapshot() if cut else None
    manifest = write_backup(path, LOG[cut:], snapshot)
    reader = BackupReader.open(path)
    assert reader.manifest == manifest
    assert Manifest.load(manifest.dump()) == manifest
    assert entries_of(reader) == LOG[cut:]
    assert replay(reader, DEDUP, lambda page: None).digest() == machine_of(LOG).digest()
    assert len(manifest.chunks) > 2
    assert (manifest.first_index, manifest.last_index) == (cut + 1, len(LOG))
    assert (manifest.first_offset, manifest.next_offset) == (LOG[cut].base_offset, 31)
    assert sum(chunk.events for chunk in manifest.chunks) == manifest.events


def test_a_log_without_an_entry_can_be_backed_up(tmp_path: Path) -> None:
    manifest = write_backup(tmp_path / "b", [])
    assert (manifest.events, manifest.entries, manifest.last_index) == (0, 0, 0)
    assert entries_of(BackupReader.open(tmp_path / "b")) == []


@pytest.mark.usefixtures("small_chunks")
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.sampled_from([0, CUT]))
def test_a_bit_flipped_anywhere_is_found(tmp_path: Path, place: float, bit: int, cut: int) -> None:
    path = tmp_path / f"b{cut}"
    if not path.exists():
        write_backup(path, LOG[cut:], machine_of(LOG[:cut]).snapshot() if cut else None)
    whole = path.read_bytes()
    at = int(place * len(whole))
    damaged = tmp_path / "damaged"
    damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
    with pytest.raises(DamagedBackup):
        read_all(damaged)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(kept=st.floats(0, 1, exclude_max=True))
def test_a_torn_file_is_refused_before_any_of_it_is_read(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "b"
    if not path.exists():
        write_backup(path, LOG)
    whole = path.read_bytes()
    torn = tmp_path / "torn"
    torn.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(DamagedBackup):
        BackupReader.open(torn)


@pytest.mark.usefixtures("small_chunks")
def test_the_first_bad_chunk_is_named_with_its_events(tmp_path: Path) -> None:
    path = tmp_path / "b"
    manifest = write_backup(path, LOG)
    bad = manifest.chunks[1]
    data = bytearray(path.read_bytes())
    for chunk in manifest.chunks[1:]:
        data[chunk.position + 50] ^= 1
    path.write_bytes(data)
    events = f"events {bad.first_offset} to {bad.first_offset + bad.events - 1}"
    with pytest.raises(DamagedBackup, match=rf"chunk 2 of .*\({events}\) is damaged"):
        read_all(path)


@pytest.mark.parametrize(
    "broken",
    [
        LOG[1:],
        [*LOG[:3], *LOG[4:]],
        [*LOG[:3], LOG[2]],
        [*log_of([3, 1])[:3], *log_of([2, 1])[3:]],
    ],
    ids=["no beginning", "a gap", "twice", "another log"],
)
def test_what_is_no_log_never_becomes_a_backup(tmp_path: Path, broken: list[Entry]) -> None:
    with pytest.raises(DamagedBackup):
        write_backup(tmp_path / "b", broken)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_never_becomes_part_of_a_backup(tmp_path: Path) -> None:
    record = LOG[0].record
    with BackupWriter(tmp_path / "b") as writer, pytest.raises(DamagedRecord):
        writer.add([record[:-1] + bytes([record[-1] ^ 1])])
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_that_came_in_part_only_makes_no_backup(tmp_path: Path) -> None:
    snapshot = machine_of(LOG[:CUT]).snapshot()
    short = replace(snapshot, data=snapshot.data[:-1])
    with BackupWriter(tmp_path / "b") as writer:
        writer.begin_snapshot(
            SnapshotPlace(short.index, short.term, short.next_offset, short.log_time_ms, len(snapshot.data))
        )
        writer.add_snapshot(bytes(short.data))
        with pytest.raises(DamagedBackup, match="1 bytes"):
            writer.finish(ORIGIN)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_already_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "b"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        write_backup(path, LOG)
    assert path.read_text() == "mine"
    late = tmp_path / "late"
    with BackupWriter(late) as writer:
        writer.add([entry.record for entry in LOG])
        late.write_text("mine, too")
        with pytest.raises(FileExistsError):
            writer.finish(ORIGIN)
    assert late.read_text() == "mine, too"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b", "late"]


def test_the_hash_of_the_events_is_the_one_that_verify_shows() -> None:
    """Whatever part of the log it is of, and however the log is cut into entries."""
    history = History([1, 2])
    history.begin(1, 0)
    history.begin(2, 4)
    for entry in LOG:
        if entry.count:
            history.add(1, entry.record)
    for entry in LOG:
        if entry.count and entry.next_offset > 4:
            history.add(2, entry.record)
    history.finish(1)
    history.finish(2)
    verdict = history.verdict()
    content = ContentHash(4)
    for entry in LOG:
        content.add(entry)
    assert {node.hash for node in verdict.nodes.values()} == {content.hexdigest()}


def test_a_manifest_of_another_shape_is_refused() -> None:
    source = random.Random(7)
    whole = b'{"schema":"eventstreamcore-backup/v1","origin":{},"snapshot":null,"chunks":[]}'
    for data in (b"", b"[]", b"{}", b"\xff", whole, whole.replace(b"[]", b'[{"kind":"1"}]')):
        with pytest.raises(DamagedBackup):
            Manifest.load(data + b" " * source.randrange(3))
