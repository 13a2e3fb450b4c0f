"""The doors of the disk: every record that a node reads back, bent, or bent and sealed again.

A record whose checksum fails is damage; one whose checksum was made to match says what it likes. Either
way it is read, or refused with a declared error, and a refused snapshot changes nothing. Used by `targets`.
"""

import dataclasses
import os
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

import google_crc32c

from esnode.apply import Machine
from esnode.config import Dedup
from esnode.dedup.keywindow import KeyWindow
from esnode.dedup.producers import ProducerTable
from esnode.errors import DamagedRecord, NewerFormat, WrongDirectory
from esnode.raft.entry import Entry, parse, seal
from esnode.raft.log import TermRun
from esnode.raft.messages import HardState, Snapshot
from esnode.storage import identity, logoutline
from esnode.storage.checkpoints import pack_checkpoint, unpack_checkpoint
from esnode.storage.durablemark import DurableMark
from esnode.storage.interface import Identity
from esnode.storage.snapshotfile import HEAD_BYTES, head_of, parse_snapshot
from tests.dedup.sources import sources

from . import samples
from .source import Source
from .target import Finding, told

DEDUP: Final = Dedup.of_keys(1024, ttl_ms=640)
_PLACE: Final = struct.Struct(">QQQQ")
_SEALED: Final = 0x80
_SAVED: Final = 0x40
_SAVED_FRONT: Final = 9
"""The head of a checkpoint's file up to where its checksum begins to count."""


def stored(data: bytes) -> str:
    """Byte 0: which record, and whether it is sealed again after it was bent. Then its bytes."""
    how, body = (data[0], data[1:]) if data else (0, b"")
    read = _checkpoint if how & _SAVED else _READERS[how % len(_READERS)]
    try:
        return f"{read.__name__} {read(body, bool(how & _SEALED))}"
    except (DamagedRecord, NewerFormat, WrongDirectory) as error:
        return told(error)


def stored_seeds() -> list[bytes]:
    """Each record as it is written."""
    records = [entry.record for entry in samples.chain((1, 1, 1, 2))]
    snapshot = machine_of(_TERMS).snapshot()
    place = _PLACE.pack(snapshot.index, snapshot.term, snapshot.next_offset, snapshot.log_time_ms)
    state = logoutline.Outline(9, HardState(4, 2), 3, logoutline.Prefix(2, 1, 4, 20))
    runs = [TermRun(3, 1), TermRun(4, 2)]
    title = identity.Title("sqlite", Identity(samples.CLUSTER, 1), bytes(16), 7)
    identity.write_title(_directory(), title)
    identity.write_peers(_directory(), {2: bytes(16)})
    names = [(_directory() / name).read_bytes() for name in (identity.IDENTITY_FILE, identity.PEERS_FILE)]
    whole: list[list[bytes]] = [
        records,
        [place + snapshot.data],
        [logoutline.pack_state(state)],
        [logoutline.pack_terms(runs)],
        [head_of(snapshot) + snapshot.data],
        [bytes(128), struct.pack(">QI", 7, google_crc32c.value((7).to_bytes(8, "big"))).ljust(128, b"\0")],
        [*names, b'{"format": 4, "inode": Infinity, "cluster": ' + b"[" * 50, b'{"format": 4}'],
        [_opening(records, state, runs)],
        *[[part] for part in (b"".join(machine_of(_TERMS).keys.dump()), machine_of(_TERMS).producers.dump())],
    ]
    saved = pack_checkpoint(machine_of(_TERMS).checkpoint())
    named = [(number, record) for number, records in enumerate(whole) for record in records]
    others = [bytes([number + sealed]) + record for number, record in named for sealed in (0, 130)]
    return [*others, *(bytes([_SAVED + sealed]) + saved for sealed in (0, _SEALED))]


def _entry(body: bytes, sealed: bool) -> str:
    """A record of the log."""
    if sealed and len(body) > 4:
        body = google_crc32c.value(body[4:]).to_bytes(4, "big") + body[4:]
    entry = parse(body)
    if entry.size_bytes != len(body):
        raise Finding("the record is not the one that was parsed")
    again = seal(
        index=entry.index,
        term=entry.term,
        kind=entry.kind,
        base_offset=entry.base_offset,
        log_time_ms=entry.log_time_ms,
        count=entry.count,
        keys=entry.keys,
        payload=entry.payload,
        producer=entry.producer,
        partition=entry.partition,
    )
    if entry.producer is not None and again.record != body:
        raise Finding("the record is not what its entry says")
    return entry.kind.name


def _snapshot(body: bytes, sealed: bool) -> str:
    """A snapshot out of its chunks or its file, into a machine that has lived."""
    if len(body) < _PLACE.size:
        return "short"
    index, term, next_offset, log_time_ms = _PLACE.unpack_from(body)
    snapshot = Snapshot(index, term, next_offset, log_time_ms, body[_PLACE.size :])
    machine = Machine(DEDUP)
    for entry in _chain():
        machine.apply(entry)
    if sealed:
        snapshot = _resealed(snapshot)
    before = machine.digest()
    try:
        machine.restore(snapshot)
    except (DamagedRecord, NewerFormat):
        if machine.digest() != before or machine.applied_index != len(_chain()):
            raise Finding("a refused snapshot left something behind") from None
        raise
    if machine.snapshot() != snapshot:
        raise Finding("a restored machine is not its snapshot")
    _live_on(machine)
    return "restored"


def _checkpoint(body: bytes, sealed: bool) -> str:
    """A checkpoint out of its file, into a machine that has lived."""
    if sealed and len(body) > _SAVED_FRONT:
        crc: int = google_crc32c.value(body[_SAVED_FRONT:])
        body = body[: _SAVED_FRONT - 4] + crc.to_bytes(4, "big") + body[_SAVED_FRONT:]
    checkpoint = unpack_checkpoint(body)
    if pack_checkpoint(checkpoint) != body:
        raise Finding("the file is not the one that its checkpoint makes")
    machine = Machine(DEDUP)
    for entry in _chain():
        machine.apply(entry)
    before = machine.digest()
    try:
        machine.resume(checkpoint, [], sources([]))
    except (DamagedRecord, NewerFormat):
        if machine.digest() != before:
            raise Finding("a refused checkpoint left something behind") from None
        raise
    if machine.checkpoint().state != checkpoint.state:
        raise Finding("a resumed machine is not its checkpoint")
    _live_on(machine)
    return "resumed"


def _live_on(machine: Machine) -> None:
    """The keys of a restored machine can be looked up, and expire."""
    keys = machine.keys
    known = keys.lookup([entry.keys[:16] for entry in _chain() if entry.count])
    if any(not keys.first_offset <= offset < keys.next_offset for offset in known.values()):
        raise Finding(f"offsets outside the window: {known}")
    keys.expires_at(keys.first_offset)
    keys.expire(2**65)  # later than any generation can say
    if keys.live:
        raise Finding("keys that never expire")


def _state(body: bytes, sealed: bool) -> str:
    """Term, vote, commit and prefix."""
    number, hard_state, commit, prefix = logoutline.unpack_state(_sealed_again(body, sealed))
    packed = logoutline.pack_state(logoutline.Outline(number, hard_state, commit, prefix))
    if packed[4:] != body[4:]:
        raise Finding("the state does not come back")
    return "read"


def _terms(body: bytes, sealed: bool) -> str:
    """The runs of terms."""
    runs = logoutline.unpack_terms(_sealed_again(body, sealed))
    return "read" if logoutline.pack_terms(runs)[4:] == body[4:] else "other"


def _snapshot_file(body: bytes, sealed: bool) -> str:
    """A snapshot's file."""
    head, data = body[:HEAD_BYTES], body[HEAD_BYTES:]
    place = machine_of(_TERMS).snapshot()
    if sealed and len(head) == HEAD_BYTES:
        rest = head[9:]
        crc = google_crc32c.extend(google_crc32c.value(rest), data)
        head = head[:5] + int(crc).to_bytes(4, "big") + rest
    snapshot = parse_snapshot(head, data, place.index, place.term)
    return "read" if (snapshot.index, snapshot.term) == (place.index, place.term) else "other"


def _mark(body: bytes, _sealed: bool) -> str:
    """The durable mark: a file of any bytes and length."""
    path = _directory() / "durable"
    path.write_bytes(body)
    mark = DurableMark(path)
    number = mark.number
    if number < 2**64 - 2:
        mark.advance(number + 1)
    mark.close()
    return "read"


def _identity(body: bytes, sealed: bool) -> str:
    """Whose directory it is, and the peers' names: files of any text."""
    for name in (identity.IDENTITY_FILE, identity.PEERS_FILE):
        (_directory() / name).write_bytes(body)
    if sealed:
        return f"peers {bool(identity.read_peers(_directory()))}"
    return f"ours {identity.read_title(_directory()) is not None}"


def _open(body: bytes, sealed: bool) -> str:
    """What an engine finds when it opens: state, terms, and the rows of a small log."""
    source = Source(body)
    parts = [source.take(source.byte()) for _ in range(2)]
    rows: list[logoutline.Row] = []
    while source and len(rows) < 8:
        index, number, commit, position = (source.number((1, 2, 3, 4)) for _ in range(4))
        record = source.take(source.byte())
        stamp = logoutline.Stamp(number, commit, position)
        if sealed:
            record = google_crc32c.value(record[4:]).to_bytes(4, "big") + record[4:]
        rows.append(
            logoutline.Row(
                index, 0, stamp, logoutline.stamp_crc(index, stamp) ^ (not sealed and position % 2), record
            )
        )
    state, terms = (_sealed_again(part, sealed) or None for part in parts)
    by_index = {row.index: row for row in rows}
    found = logoutline.outline_of(logoutline.Contents(state, terms, rows[-1] if rows else None), by_index.get)
    return f"opened {found.last_index > found.prefix.index}"


def _keys(body: bytes, _sealed: bool) -> str:
    """The window of keys in a snapshot."""
    window = KeyWindow.load(body, DEDUP.ttl_ms, DEDUP.max_keys, DEDUP.when_full)
    if b"".join(window.dump()) != body:
        raise Finding("a loaded window is not its bytes")
    window.digest()
    return "loaded"


def _producers(body: bytes, _sealed: bool) -> str:
    """The producer sessions in a snapshot."""
    table = ProducerTable.load(body)
    if table.dump() != body:
        raise Finding("loaded sessions are not their bytes")
    table.digest()
    return "loaded"


_READERS: Final = (
    _entry,
    _snapshot,
    _state,
    _terms,
    _snapshot_file,
    _mark,
    _identity,
    _open,
    _keys,
    _producers,
)


_TERMS: Final = (1, 1, 1, 1, 2, 2)


@cache
def _chain() -> tuple[Entry, ...]:
    return tuple(samples.chain((1, 1, 1, 1, 1)))


def machine_of(terms: tuple[int, ...]) -> Machine:
    machine = Machine(DEDUP)
    for entry in samples.chain(terms):
        machine.apply(entry)
    return machine


@cache
def _directory() -> Path:
    """One directory for all cases of a process, in memory where there is such a place."""
    memory = Path("/dev/shm")
    keep = tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if os.access(memory, os.W_OK) else None)
    _KEPT.append(keep)
    return Path(keep.name)


_KEPT: Final[list[tempfile.TemporaryDirectory[str]]] = []


def _sealed_again(body: bytes, sealed: bool) -> bytes:
    if sealed and len(body) >= 4:
        crc: int = google_crc32c.value(body[4:])
        return crc.to_bytes(4, "big") + body[4:]
    return body


def _resealed(snapshot: Snapshot) -> Snapshot:
    """The snapshot with the digest that its own tables have, where they can be read at all."""
    machine = Machine(DEDUP)
    head = struct.Struct(">B16sQ")
    if len(snapshot.data) < head.size:
        return snapshot
    version, _digest, length = head.unpack_from(snapshot.data)
    view = memoryview(snapshot.data)
    machine.producers.adopt(ProducerTable.load(view[head.size : head.size + length]))
    machine.keys.adopt(machine.keys.load(view[head.size + length :]))
    machine.applied_index, machine.applied_term = snapshot.index, snapshot.term
    machine.log_time_ms = snapshot.log_time_ms
    data = head.pack(version, machine.digest(), length) + snapshot.data[head.size :]
    return dataclasses.replace(snapshot, data=data, next_offset=machine.next_offset)


def _opening(records: list[bytes], state: logoutline.Outline, runs: list[TermRun]) -> bytes:
    """The bytes that `_open` reads as the log after entry 2."""
    parts = [logoutline.pack_state(state), logoutline.pack_terms(runs)]
    out = b"".join(bytes([len(part)]) + part for part in parts)
    for index in (3, 4):
        row = bytes([index - 1, 1, 1, 0])
        out += row + bytes([min(255, len(records[index - 1]))]) + records[index - 1][:255]
    return out
