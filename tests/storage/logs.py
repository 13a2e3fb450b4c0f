"""Entries, writes and snapshots as a core would hand them to storage."""

from collections.abc import Iterable, Sequence

from esnode import limits
from esnode.raft.entry import Entry, EntryKind, seal
from esnode.raft.messages import HardState, Snapshot, Write


def entry(
    index: int, *, term: int = 1, base_offset: int, count: int = 2, payload: bytes = b"events"
) -> Entry:
    """A batch of `count` events; a no-op when there are none."""
    return seal(
        index=index,
        term=term,
        kind=EntryKind.BATCH if count else EntryKind.NOOP,
        base_offset=base_offset,
        log_time_ms=10 * index,
        count=count,
        keys=b"".join(b"%016x" % (base_offset + n) for n in range(count)),
        payload=payload + b" of %d/%d" % (index, term) if count else b"",
    )


def entries(
    first_index: int,
    counts: Iterable[int],
    *,
    term: int = 1,
    base_offset: int = 0,
    payload: bytes = b"events",
) -> tuple[Entry, ...]:
    """Entries in a row with these numbers of events."""
    made: list[Entry] = []
    for count in counts:
        made.append(
            entry(first_index + len(made), term=term, base_offset=base_offset, count=count, payload=payload)
        )
        base_offset = made[-1].next_offset
    return tuple(made)


def write(
    appended: Sequence[Entry] = (),
    *,
    hard_state: HardState | None = None,
    snapshot: Snapshot | None = None,
    commit: int = 0,
) -> Write:
    """A `Write` whose number does not matter."""
    return Write(0, snapshot, hard_state, tuple(appended), commit)


def snapshot_of(last: Entry, data: bytes = b"state of the machine") -> Snapshot:
    """What the log up to `last` meant."""
    return Snapshot(last.index, last.term, last.next_offset, last.log_time_ms, data)


def all_of(storage_read: Sequence[Entry]) -> list[tuple[int, int, bytes]]:
    """What tells entries apart, for comparing."""
    return [(each.index, each.term, each.record) for each in storage_read]


WHOLE = limits.MAX_FRAME_BYTES
