"""A stopped node's files, read without the node: by opening its storage directly.

`read_files` gives the whole log of a directory. `damage_in` reads a copy of one, so that nothing changes,
and says what the storage finds wrong there; it is how a fault in a file is confirmed. Called by the
campaigns and the judgement.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from esctl.state import Cluster, Node
from esnode import limits
from esnode.errors import DamagedRecord
from esnode.storage.engines import open_storage
from esnode.storage.interface import Identity, pages

SET_ASIDE: Final = "damaged-*"
"""Where a node puts files that it does not believe any more."""


@dataclass(frozen=True, slots=True)
class FileLog:
    """The events in a node's files, in order: their keys, packed, and a hash of their keys and contents."""

    keys: bytes
    events_hash: str


def read_files(cluster: Cluster, node: Node, up_to_offset: int) -> FileLog:
    """All events before `up_to_offset`; raises `DamagedRecord`."""
    return _read(node.data_dir, cluster, node, up_to_offset)


def damage_in(cluster: Cluster, node: Node, scratch: Path) -> str:
    """What is wrong with the stopped node's files; empty when nothing."""
    copy = scratch / f"copy-of-node-{node.id}"
    shutil.copytree(node.data_dir, copy, ignore=shutil.ignore_patterns(SET_ASIDE))
    try:
        _read(copy, cluster, node, limits.MAX_INDEX)
    except DamagedRecord as error:
        return str(error)
    finally:
        shutil.rmtree(copy)
    return ""


def set_aside(node: Node) -> int:
    """How often the node has put its files aside."""
    return len(list(node.data_dir.glob(SET_ASIDE)))


def mark_file(node: Node) -> Path:
    """The file that remembers what was durable."""
    return node.data_dir / "durable"


def data_files(cluster: Cluster, node: Node) -> list[Path]:
    """The files of the log that hold something: the database, its journal, the snapshot."""
    if cluster.storage == "sqlite":
        found = [node.data_dir / "log.sqlite", node.data_dir / "log.sqlite-wal"]
    else:
        found = [*(node.data_dir / "rocksdb").glob("*.sst"), *(node.data_dir / "rocksdb").glob("*.log")]
    found += node.data_dir.glob("snapshot-*")
    return sorted(path for path in found if path.exists() and path.stat().st_size)


def _read(data_dir: Path, cluster: Cluster, node: Node, up_to_offset: int) -> FileLog:
    storage = open_storage(cluster.storage, data_dir, Identity(cluster.identity, node.id))
    keys, digest = bytearray(), hashlib.blake2b(digest_size=16)
    try:
        found = storage.recover()
        storage.load_snapshot()
        for page in pages(storage, found.prefix_index + 1, found.last_index, limits.MAX_FETCH_BYTES):
            for entry in page:
                if entry.count and entry.base_offset < up_to_offset:
                    keys += entry.keys
                    digest.update(entry.keys + entry.payload)
    finally:
        storage.close()
    return FileLog(bytes(keys), digest.hexdigest())
