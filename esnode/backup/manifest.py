"""The manifest of a backup: whose log it is, from where to where, and the digest of every part.

It is JSON, so that it can be read without special tools, and the last part of the file, since it has the
digests. Decides what a manifest must contain, and refuses any other. Never opens a file. Called by `file.py`,
and by the list of backups.
"""

import dataclasses
import enum
import json
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar, get_type_hints

from esnode.config import Ancestor, Dedup
from esnode.errors import DamagedBackup
from esnode.formats import refuse_newer

_NAME: Final = "eventstreamcore-backup/v"
FORMAT: Final = 1
SCHEMA: Final = f"{_NAME}{FORMAT}"


class ChunkKind(enum.IntEnum):
    """What a chunk holds."""

    SNAPSHOT = 1
    """Bytes of the snapshot, in order."""
    ENTRIES = 2
    """Whole records, each with its length in front."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of the file: where it is, what is in it, and the digest of its head and body.

    Entries: `first_index` and how many they are, `first_offset` and how many events; 0 for the snapshot's.
    """

    kind: int
    position: int
    size_bytes: int
    first_index: int
    entries: int
    first_offset: int
    events: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SnapshotPlace:
    """The snapshot that stands for the prefix that was cut; see `esnode.raft.messages.Snapshot`."""

    index: int
    term: int
    next_offset: int
    log_time_ms: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a backup comes from, and what it takes to understand it.

    `known_commit` is the last index that was committed for certain, and `known_offset` that of the event
    after it: all that a running cluster gives is, of a stopped node's log perhaps not all. `dedup`: under
    other settings the same log means something else.
    """

    cluster: str
    name: str
    ancestors: tuple[Ancestor, ...]
    node: int
    online: bool
    created: str
    known_commit: int
    known_offset: int
    dedup: Dedup

    @property
    def epoch(self) -> int:
        """That of the cluster; a cluster restored from this has the next one."""
        return 1 + len(self.ancestors)


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of it.

    The events are those from `first_offset` to before `next_offset`; the log goes from `first_index` to
    `last_index`. `content_hash` is what `esctl verify` shows of a node that has just these events.
    """

    origin: Origin
    snapshot: SnapshotPlace | None
    first_index: int
    last_index: int
    last_term: int
    first_offset: int
    next_offset: int
    entries: int
    log_time_ms: int
    content_hash: str
    sha256: str
    chunks: tuple[Chunk, ...]

    @property
    def events(self) -> int:
        """How many."""
        return self.next_offset - self.first_offset

    @property
    def size_bytes(self) -> int:
        """The length of all chunks."""
        return sum(chunk.size_bytes for chunk in self.chunks)

    @property
    def beyond_commit(self) -> int:
        """Entries of which the node did not know whether they were committed."""
        return max(0, self.last_index - self.origin.known_commit)

    def dump(self) -> bytes:
        """The bytes in the file."""
        document = {"schema": SCHEMA, **dataclasses.asdict(self)}
        dedup = self.origin.dedup
        document["origin"]["dedup"] = {
            "ttl_ms": dedup.ttl_ms, "max_keys": dedup.max_keys, "when_full": dedup.when_full,
        }  # fmt: skip
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def load(cls, data: bytes) -> Self:
        """What `dump` gave; raises `DamagedBackup`, `NewerFormat`."""
        try:
            document = json.loads(data)
            if not isinstance(document, dict):
                raise DamagedBackup("its manifest is no object")
            schema = document.pop("schema", None)
            if isinstance(schema, str) and schema.startswith(_NAME):
                writer = document.get("written_by", "")
                refuse_newer("its manifest", int(schema.removeprefix(_NAME)), FORMAT, str(writer))
            if schema != SCHEMA:
                raise DamagedBackup(f"its manifest is not one of the schema {SCHEMA}")
            document["origin"] = _origin(document["origin"])
            place = document["snapshot"]
            document["snapshot"] = None if place is None else _made(SnapshotPlace, place)
            document["chunks"] = tuple(_made(Chunk, each) for each in document["chunks"])
            return _made(cls, document)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedBackup(f"its manifest cannot be read: {error}") from error


_T = TypeVar("_T")


def _origin(fields: dict[str, Any]) -> Origin:
    ancestors = tuple(_made(Ancestor, each) for each in fields["ancestors"])
    return _made(Origin, {**fields, "ancestors": ancestors, "dedup": _dedup(**fields["dedup"])})


def _dedup(ttl_ms: int, max_keys: int, when_full: str) -> Dedup:
    """As a manifest has it: bounded by the number of keys."""
    if type(ttl_ms) is not int or type(max_keys) is not int or type(when_full) is not str:
        raise TypeError("dedup is not what a manifest has")
    return Dedup.of_keys(max_keys, ttl_ms, when_full)


def _made(cls: type[_T], fields: dict[str, Any]) -> _T:
    """The dataclass `cls` of these fields, each of its own plain type."""
    hints = get_type_hints(cls)
    for name, value in fields.items():
        if hints[name] in (int, str, bool) and type(value) is not hints[name]:
            raise TypeError(f"{name} is {value!r:.40}")
    return cls(**fields)
