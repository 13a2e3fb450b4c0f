"""Directories and backups that earlier versions wrote are opened by this one, with the same content.

`tests/storage/written_by/` holds them; `make.py` there says how they were made, and how the next ones are.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from esnode.apply import Machine
from esnode.backup.file import BackupReader
from esnode.dedup.admission import Admission
from esnode.dedup.batch import OffsetRange
from esnode.events import decode_events, make_batch
from esnode.raft.entry import EntryKind, parse, seal
from esnode.raft.messages import HardState
from esnode.storage.birthtime import born_ns
from esnode.storage.engines import open_storage
from esnode.storage.interface import Identity, Storage, pages
from esnode.upkeep.recovery import recover
from tests.storage.logs import write
from tests.storage.written_by.make import DEDUP, ENGINES, HERE

VERSIONS = sorted(path.parent.name for path in HERE.glob("*/expected.json"))
WRITTEN = [(version, engine) for version in VERSIONS for engine in ENGINES]


def expected(version: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / version / "expected.json").read_text())
    return found


def moved_to(path: Path, version: str, engine: str) -> Path:
    """A copy that says of itself that it is the original, as a checkout cannot."""
    shutil.copytree(HERE / version / engine, path)
    identity, mark = path / "identity.json", path / "durable"
    title = json.loads(identity.read_text())
    identity.write_text(json.dumps({**title, "inode": mark.stat().st_ino, "born_ns": born_ns(mark)}))
    return path


@pytest.fixture
def opened(request: pytest.FixtureRequest, quick_path: Path) -> Iterator[tuple[dict[str, Any], Storage]]:
    version, engine = request.param
    wanted = expected(version)
    path = moved_to(quick_path / "data", version, engine)
    storage = open_storage(engine, path, Identity(wanted["cluster"], wanted["node_id"]))
    with closing(storage):
        yield wanted, storage


def test_today_s_version_and_the_first_one_are_among_them() -> None:
    assert VERSIONS[0] == "0.1.0"


@pytest.mark.parametrize("opened", WRITTEN, indirect=True)
def test_the_log_the_vote_and_the_peers_are_what_was_written(
    opened: tuple[dict[str, Any], Storage],
) -> None:
    wanted, storage = opened
    found = storage.recover()
    assert found.hard_state == HardState(wanted["term"], wanted["vote"])
    assert (found.prefix_index, found.last_index) == (wanted["prefix_index"], wanted["last_index"])
    assert found.commit == wanted["commit"]
    read = pages(storage, found.prefix_index + 1, found.last_index, 10_000)
    assert [each.record.hex() for page in read for each in page] == wanted["records"]
    assert {str(peer): name.hex() for peer, name in storage.peer_directories.items()} == wanted["peers"]
    assert storage.distrust is None


@pytest.mark.parametrize("opened", WRITTEN, indirect=True)
def test_every_key_and_the_producer_s_session_is_what_was_written(
    opened: tuple[dict[str, Any], Storage],
) -> None:
    """From the checkpoint, and from the snapshot and the log alone."""
    wanted, storage = opened
    machine, replayed = Machine(DEDUP), Machine(DEDUP)
    found = recover(storage, machine)
    assert found.checkpoint is not None
    assert found.checkpoint.index == wanted["savepoint_index"]
    snapshot = storage.load_snapshot()
    assert snapshot is not None
    replayed.restore(snapshot)
    for page in pages(storage, snapshot.index + 1, machine.applied_index, 10_000):
        for each in page:
            replayed.apply(each)
    assert replayed.digest() == machine.digest()
    last = storage.read(wanted["last_index"], wanted["last_index"], 1)[0]
    machine.apply(last)  # known to be committed by the backup only
    offsets = {bytes.fromhex(key): offset for key, offset in wanted["offsets_of_keys"].items()}
    assert machine.keys.lookup(tuple(offsets)) == offsets
    producer = wanted["producer"]
    assert machine.producers.place(producer["id"]) == (producer["epoch"], producer["next_sequence"])
    opening = machine.producers.find(producer["id"])
    assert opening is not None
    assert opening.name == producer.get("name", "")


@pytest.mark.parametrize("opened", WRITTEN, indirect=True)
def test_an_event_that_is_sent_again_is_known_whatever_its_key_was(
    opened: tuple[dict[str, Any], Storage],
) -> None:
    """Its key of today begins with a token, which those of the first format do not have."""
    wanted, storage = opened
    machine = Machine(DEDUP)
    recover(storage, machine)
    admission = Admission(machine.keys, machine.producers)
    for record in map(bytes.fromhex, wanted["records"]):
        entry = parse(record)
        if entry.count and entry.next_offset <= machine.next_offset:
            again = make_batch(decode_events(entry.payload))
            assert (again.keys == entry.keys) == entry.keys_have_tokens
            decided = admission.decide(again, machine.next_offset, machine.log_time_ms)
            assert decided.fresh is None
            assert decided.ranges == (OffsetRange(entry.base_offset, entry.count),)


@pytest.mark.parametrize("opened", WRITTEN, indirect=True)
def test_the_log_is_written_on(opened: tuple[dict[str, Any], Storage]) -> None:
    wanted, storage = opened
    last = storage.read(wanted["last_index"], wanted["last_index"], 1)[0]
    following = seal(
        index=last.index + 1,
        term=9,
        kind=EntryKind.NOOP,
        base_offset=last.next_offset,
        log_time_ms=last.log_time_ms,
    )
    storage.write([write([following], hard_state=HardState(9, 1))])
    assert storage.recover().hard_state == HardState(9, 1)
    assert storage.read(following.index, following.index, 1) == [following]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_backup_is_read_to_its_end(version: str) -> None:
    wanted = expected(version)
    reader = BackupReader.open(HERE / version / "backup.esbackup")
    records = [each.record.hex() for page in reader.pages() for each in page]
    assert records == wanted["records"]
    assert reader.manifest.content_hash == wanted["content_hash"]
    assert reader.snapshot_data()
