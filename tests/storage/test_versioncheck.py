"""What a newer version stored is refused with `NewerFormat`, and not one byte of it is touched."""

import dataclasses
import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import google_crc32c
import pytest

import esnode
from esnode.apply import CHECKPOINT_VERSION, SNAPSHOT_VERSION
from esnode.backup.file import BackupReader
from esnode.backup.manifest import Manifest
from esnode.errors import DamagedBackup, DamagedRecord, NewerFormat, NewerPeer
from esnode.raft.entry import RECORD_VERSION, Entry, EntryKind, parse, seal
from esnode.raft.messages import AppendEntries
from esnode.storage import identity
from esnode.storage.engines import open_storage
from esnode.storage.interface import Distrust, Identity
from esnode.storage.place import DirectoryPlace
from esnode.storage.segmentfile import HEAD_BYTES as FRAME_HEAD_BYTES
from esnode.storage.segmentfile import open_segment
from esnode.upkeep.repair import Repair
from esnode.wire import FrameReader, encode
from tests.backup.logs import log_of, write_backup
from tests.storage.logs import write
from tests.storage.test_written_by import moved_to
from tests.storage.written_by.make import ENGINES, IDENTITY, fill
from tests.storage.written_by.make import log_of as written_log

SNAPSHOT: Final = "snapshot-6-1"
Doctor = Callable[[Path, str], None]


def digests(path: Path) -> dict[str, tuple[str, int]]:
    """Of all but the lock: each file's content, and when that was written."""
    return {
        str(each.relative_to(path)): (
            hashlib.sha256(each.read_bytes()).hexdigest() if each.is_file() else "",
            each.stat().st_mtime_ns if each.is_file() else 0,
        )
        for each in sorted(path.rglob("*"))
        if each.name != "lock"
    }


def crc_of(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return crc


def written_over(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:  # the same file: another one would be a copy
        file.seek(at)
        file.write(data)


def json_with(name: str, **fields: object) -> Doctor:
    def doctor(path: Path, _engine: str) -> None:
        file = path / name
        found = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**found, **fields}))

    return doctor


def front_with(name: str, version: int) -> Doctor:
    """Its format's number alone."""
    return lambda path, _engine: written_over(path / name, 4, bytes([version]))


def front_sealed_with(name: str, version: int) -> Doctor:
    """With a checksum that covers the number, as from the second format on."""

    def doctor(path: Path, _engine: str) -> None:
        rest = (path / name).read_bytes()[9:]
        written_over(path / name, 4, struct.pack(">BI", version, crc_of(bytes([version]) + rest)))

    return doctor


def state_with(name: str, at: int, version: int) -> Doctor:
    """The state in the file is of another format than the file."""

    def doctor(path: Path, _engine: str) -> None:
        data = bytearray((path / name).read_bytes())
        data[at] = version
        written_over(path / name, 5, struct.pack(">I", crc_of(bytes(data[9:]))) + bytes(data[9:]))

    return doctor


def mark_with(path: Path, _engine: str) -> None:
    number = (2).to_bytes(8, "big")
    written_over(path / "durable", 112, number + struct.pack(">I", crc_of(number)))


def doctored(entry: Entry, *, version: int = 1, kind: int = 200) -> Entry:
    """The entry as a newer version would have sealed it."""
    rest = bytes([version, kind]) + entry.record[6:]
    return dataclasses.replace(entry, record=crc_of(rest).to_bytes(4, "big") + rest)


def record_with(version: int = 1, kind: int = 200) -> Doctor:
    """One more entry, of a kind that only a newer version knows."""

    def doctor(path: Path, engine: str) -> None:
        with closing(open_storage(engine, path, IDENTITY)) as storage:
            last = storage.read(storage.recover().last_index, 10**6, 1)[0]
            following = seal(
                index=last.index + 1,
                term=last.term,
                kind=EntryKind.NOOP,
                base_offset=last.next_offset,
                log_time_ms=last.log_time_ms,
            )
            storage.write([write([doctored(following, version=version, kind=kind)], commit=last.index)])
            shutil.copytree(path, path.with_name("killed"))
        shutil.rmtree(path)
        path.with_name("killed").rename(path)
        title = json.loads((path / "identity.json").read_text())
        mark = (path / "durable").stat()
        json_with("identity.json", **{**title, "inode": mark.st_ino, "born_ns": None})(path, engine)

    return doctor


EVERYWHERE: Final[dict[str, Doctor]] = {
    "directory": json_with("identity.json", format=identity.FORMAT + 1, written_by="9.9.9"),
    "engine": json_with("identity.json", engine_format=2, written_by="9.9.9"),
    "peers": json_with("peers.json", format=2),
    "rejoining": json_with("rejoining", format=2, cause="eclipse", directory="00" * 16),
    "mark": mark_with,
    "snapshot": front_with(SNAPSHOT, 2),
    "sealed snapshot": front_sealed_with(SNAPSHOT, 3),
    "state of the snapshot": state_with(SNAPSHOT, 49, SNAPSHOT_VERSION + 1),
    "savepoint": front_with("savepoint", 2),
    "sealed checkpoint": front_sealed_with("savepoint", 3),
    "state of the checkpoint": state_with("savepoint", 57, CHECKPOINT_VERSION + 1),
    "kind of a record": record_with(),
    "version of a record": record_with(version=RECORD_VERSION + 1, kind=1),
}


@pytest.fixture(params=ENGINES)
def newer(request: pytest.FixtureRequest, quick_path: Path) -> tuple[str, Path]:
    """An engine, and a directory of it as a killed process left it."""
    return request.param, moved_to(quick_path / "data", "0.1.0", request.param)


@pytest.mark.parametrize("what", EVERYWHERE)
def test_the_refusal_names_the_version_that_wrote(newer: tuple[str, Path], what: str) -> None:
    engine, path = newer
    EVERYWHERE[what](path, engine)
    json_with("identity.json", written_by="9.9.9")(path, engine)
    with pytest.raises(NewerFormat, match=r"version 9\.9\.9 wrote"):
        open_storage(engine, path, IDENTITY)


@pytest.mark.parametrize("what", EVERYWHERE)
def test_a_newer_directory_is_refused_and_untouched(newer: tuple[str, Path], what: str) -> None:
    engine, path = newer
    EVERYWHERE[what](path, engine)
    before = digests(path)
    place = DirectoryPlace(engine, path, IDENTITY)
    doors: list[Callable[[], object]] = [
        place.open,
        lambda: place.begin_rejoin(Distrust.OPERATOR),
        lambda: place.begin_rejoin(Distrust.DAMAGE),
        place.trust_copy,
        Repair(place, alone=False, rejoin=True).open,
    ]
    for door in doors:
        with pytest.raises(NewerFormat, match=f"this is {esnode.__version__}"):
            door()
        assert digests(path) == before


def segment_magic(path: Path, _engine: str) -> None:
    file = sorted((path / "segments").glob("*.log"))[-1]
    head = bytearray(file.read_bytes()[:24])
    head[7] = 2
    written_over(file, 0, bytes(head) + struct.pack(">I", crc_of(bytes(head))))


def segment_frame(path: Path, _engine: str) -> None:
    file = sorted((path / "segments").glob("*.log"))[-1]
    with closing(open_segment(file)) as segment:
        frame = segment.frame_at(segment.end)
        while frame is not None:
            head, body = frame
            segment.end += FRAME_HEAD_BYTES + len(body)
            frame = segment.frame_at(segment.end)
        segment.append(segment.frame(head._replace(kind=9, number=head.number + 1), b"of a newer version"))


@pytest.mark.parametrize("doctor", [segment_magic, segment_frame])
def test_files_and_frames_of_newer_segments_are_refused_and_untouched(
    quick_path: Path, doctor: Doctor
) -> None:
    path = moved_to(quick_path / "data", "0.1.0", "segments")
    doctor(path, "segments")
    before = digests(path)
    with pytest.raises(NewerFormat):
        open_storage("segments", path, IDENTITY)
    assert digests(path) == before


@pytest.mark.parametrize("name", [SNAPSHOT, "savepoint"])
def test_one_flipped_bit_of_a_format_is_damage_and_not_a_newer_version(
    newer: tuple[str, Path], name: str
) -> None:
    """Outside the checksum as it is, it would stop a node that can repair itself."""
    engine, path = newer
    for bit in range(8):
        written_over(path / name, 4, bytes([1 ^ 1 << bit]))
        with closing(open_storage(engine, path, IDENTITY)) as storage, pytest.raises(DamagedRecord):
            storage.load_snapshot() if name == SNAPSHOT else storage.load_checkpoint()


def test_a_look_touches_nothing_of_a_directory_that_is_ours(newer: tuple[str, Path]) -> None:
    from esnode.storage.versioncheck import refuse_newer_directory

    engine, path = newer
    before = digests(path)
    refuse_newer_directory(engine, path)
    assert digests(path) == before


def test_the_version_that_wrote_is_noted_at_the_first_open(newer: tuple[str, Path]) -> None:
    engine, path = newer
    assert identity.read_title(path) is not None
    open_storage(engine, path, IDENTITY).close()
    noted = json.loads((path / "identity.json").read_text())
    assert (noted["written_by"], noted["engine_format"]) == (esnode.__version__, 1)


def test_a_record_of_an_unknown_kind_in_the_old_part_of_a_log_ends_the_node(quick_path: Path) -> None:
    """The start did not read it: whoever reads it later is told, and nothing is taken for damage."""
    log = written_log(16)
    log[8] = doctored(log[8])
    with closing(open_storage("sqlite", quick_path / "data", IDENTITY)) as storage:
        fill_as_is(storage, log)
        with pytest.raises(NewerFormat, match="index 9 is of the kind 200"):
            storage.read(9, 9, 1)
    with closing(open_storage("sqlite", quick_path / "data", IDENTITY)) as storage:
        assert storage.recover().last_index == 16


def fill_as_is(storage: object, log: list[Entry]) -> None:
    plain = written_log(16)
    fill(storage, [*plain[:8], log[8], *plain[9:]])  # type: ignore[arg-type]


def test_an_entry_of_an_unknown_kind_is_refused_at_the_wire_and_is_no_damage() -> None:
    (entry,) = log_of([])[:1]
    reader = FrameReader()
    with pytest.raises(NewerPeer, match="of the kind 200"):
        reader.feed(encode(AppendEntries(1, 0, 0, 0, (doctored(entry),))))
    with pytest.raises(NewerPeer):
        reader.feed(b"")


@pytest.mark.parametrize("kind", [0, 4, 255])
def test_a_damaged_record_is_never_taken_for_a_newer_one(kind: int) -> None:
    (entry,) = log_of([])[:1]
    with pytest.raises(DamagedRecord, match="checksum"):
        parse(entry.record[:5] + bytes([kind]) + entry.record[6:])


def test_a_newer_backup_is_refused_by_its_head_and_by_its_manifest(tmp_path: Path) -> None:
    manifest = write_backup(tmp_path / "a.esbackup", log_of([3, 2]))
    written_over(tmp_path / "a.esbackup", 8, struct.pack(">I", 2))
    with pytest.raises(NewerFormat, match=r"a\.esbackup is of format 2"):
        BackupReader.open(tmp_path / "a.esbackup")
    later = json.loads(manifest.dump()) | {"schema": "eventstreamcore-backup/v2", "written_by": "9.9.9"}
    with pytest.raises(NewerFormat, match=r"version 9\.9\.9 wrote it"):
        Manifest.load(json.dumps(later).encode())
    with pytest.raises(DamagedBackup):
        Manifest.load(json.dumps(later | {"schema": "something-else/v2"}).encode())


def test_an_identity_is_still_compared_before_anything_else(newer: tuple[str, Path]) -> None:
    engine, path = newer
    json_with("identity.json", format=identity.FORMAT + 1)(path, engine)
    with pytest.raises(NewerFormat):
        open_storage(engine, path, Identity("another", 2))
