"""A process that writes to a storage for ever and says what it is about to do and what was acked.

Run by the crash tests, which kill it: `work` in a forked child, or this module as a program under a
tracer. After each step it reports the outline that storage should now have.
"""

import random
import resource
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from esnode.errors import StorageFailed
from esnode.raft.entry import Entry
from esnode.raft.messages import HardState, Snapshot, Write
from esnode.storage.engines import open_storage
from esnode.storage.interface import Storage
from tests.storage.logs import WHOLE, entries, snapshot_of, write
from tests.storage.places import US


@dataclass(frozen=True, slots=True)
class Seen:
    """All of a storage in few bytes: two are equal where the storages hold the same."""

    hard_state: HardState
    prefix_index: int
    last_index: int
    digest: int
    snapshot: int


def seen_in(storage: Storage) -> Seen:
    """What a storage holds; reads and checks every record."""
    found = storage.recover()
    log = storage.read(found.prefix_index + 1, found.last_index, 1 << 40)
    snapshot = storage.load_snapshot()
    return _seen(found.hard_state, found.prefix_index, log, snapshot)


def _seen(hard_state: HardState, prefix_index: int, log: list[Entry], snapshot: Snapshot | None) -> Seen:
    digest = 0
    for each in log:
        digest = zlib.crc32(each.record, digest)
    last_index = log[-1].index if log else prefix_index
    return Seen(hard_state, prefix_index, last_index, digest, zlib.crc32(snapshot.data) if snapshot else 0)


class Writer:
    """Steps of every kind, and what each should lead to."""

    def __init__(self, storage: Storage, source: random.Random) -> None:
        self._storage = storage
        self._source = source
        found = storage.recover()
        self._hard_state = found.hard_state
        self._commit = found.commit
        self._prefix_index = found.prefix_index
        self._log = storage.read(found.prefix_index + 1, found.last_index, WHOLE)
        self._snapshot = storage.load_snapshot()
        self._term = max([found.hard_state.term, *(run.term for run in found.terms)])

    def step(self, intend: Callable[[Seen], None]) -> Seen:
        """Change the storage once; tells what it will be before it is begun."""
        if self._source.random() < 0.1 and self._log and self._commit > self._log[0].index:
            return self._cut(intend)
        return self._write(intend)

    def _write(self, intend: Callable[[Seen], None]) -> Seen:
        writes: list[Write] = []
        log = self._log
        for _ in range(self._source.choice((1, 1, 1, 4))):
            hard_state = None
            if self._source.random() < 0.2 or not self._term:
                self._term += 1
                hard_state = self._hard_state = HardState(self._term, self._source.choice((None, 1, 2)))
                if self._source.random() < 0.5:
                    log = [each for each in log if each.index <= self._commit]
            offset = log[-1].next_offset if log else self._snapshot.next_offset if self._snapshot else 0
            first_index = log[-1].index + 1 if log else self._prefix_index + 1
            counts = [self._source.randint(0, 64) for _ in range(self._source.choice((1, 3, 40)))]
            payload = bytes(self._source.choice((0, 100, 9_000)))
            new = entries(first_index, counts, term=self._term, base_offset=offset, payload=payload)
            log = [*log, *new]
            writes.append(write(new, hard_state=hard_state, commit=self._commit))
        seen = _seen(self._hard_state, self._prefix_index, log, self._snapshot)
        intend(seen)
        self._storage.write(writes)
        self._log = log
        self._commit = self._source.randint(self._commit, log[-1].index)
        self._storage.tend()
        return seen

    def _cut(self, intend: Callable[[Seen], None]) -> Seen:
        last = next(each for each in self._log if each.index == self._commit)
        snapshot = snapshot_of(last, b"\1" + self._source.randbytes(self._source.choice((10, 2_000_000))))
        log = [each for each in self._log if each.index > last.index]
        seen = _seen(self._hard_state, last.index, log, snapshot)
        intend(seen)
        self._storage.cut_prefix(snapshot)
        self._log, self._snapshot, self._prefix_index = log, snapshot, last.index
        while self._storage.tend():
            continue
        return seen


def work(engine: str, data_dir: Path, seed: str, say: Callable[[str, Seen], None]) -> None:
    """Write until killed."""
    storage = open_storage(engine, data_dir, US)
    say("acked", seen_in(storage))
    writer = Writer(storage, random.Random(seed))
    while True:
        say("acked", writer.step(lambda seen: say("intended", seen)))


def main() -> None:
    """As a program: until the disk fails; then try again, and say whether that was refused."""
    engine, data_dir, file_bytes = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    storage = open_storage(engine, data_dir, US)
    writer = Writer(storage, random.Random(1))

    def say(word: str, seen: object) -> None:
        sys.stdout.write(f"{word} {seen}\n")
        sys.stdout.flush()

    try:
        for _ in range(2000):
            say("acked", writer.step(lambda seen: say("intended", seen)))
    except StorageFailed as error:
        say("failed", error)
    else:
        return
    try:
        storage.write([write(hard_state=HardState(10**6, None))])
    except StorageFailed:
        say("refused", "")
    storage.close()


if __name__ == "__main__":
    main()
