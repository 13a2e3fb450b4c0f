"""The state machine behind a core in these tests: the real one, and every key ever applied.

Also names for events. Used by the network of cores.
"""

from dataclasses import replace
from typing import Final

import cbor2

from esnode import apply, limits
from esnode.config import Dedup
from esnode.dedup.admission import Admission
from esnode.dedup.batch import Batch, split_keys
from esnode.raft.entry import Entry
from esnode.raft.messages import Snapshot
from esnode.ring import TOKEN_BYTES

DEFAULT: Final = Dedup()
_TOKEN: Final = bytes(TOKEN_BYTES)


def key_of(name: str) -> bytes:
    """The key of the event called `name`, readable."""
    return (_TOKEN + name.encode()).ljust(limits.KEY_BYTES, b"_")


def name_of(key: bytes) -> str:
    return key.removeprefix(_TOKEN).rstrip(b"_").decode()


def batch_of(*names: str, size: int = 0) -> Batch:
    """A batch of events; each carries `size` bytes besides its name."""
    payload = cbor2.dumps([cbor2.dumps(name + "." * size) for name in names])
    return Batch(len(names), b"".join(map(key_of, names)), payload)


class Machine:
    """`esnode.apply.Machine`, with an eye on every key that was ever applied."""

    def __init__(self, dedup: Dedup = DEFAULT) -> None:
        self._machine = apply.Machine(dedup)
        self.offsets: dict[bytes, int] = {}
        self.admission = Admission(self._machine.keys, self._machine.producers)

    @property
    def index(self) -> int:
        return self._machine.applied_index

    def digest(self) -> bytes:
        return self._machine.digest()

    def apply(self, entry: Entry) -> None:
        self._machine.apply(entry)
        for place, key in enumerate(split_keys(entry.keys)):
            assert key not in self.offsets, "a key is applied twice"
            self.offsets[key] = entry.base_offset + place

    def snapshot(self) -> Snapshot:
        """The machine's snapshot, with the offsets of all keys behind it."""
        found = self._machine.snapshot()
        return replace(found, data=cbor2.dumps([found.data, self.offsets]))

    def restore(self, snapshot: Snapshot) -> None:
        data, offsets = cbor2.loads(snapshot.data)
        self._machine.restore(replace(snapshot, data=data))
        self.offsets = dict(offsets)
