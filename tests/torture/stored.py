"""A stopped node's files, read without the node: by opening its storage directly.

`read_files` gives the whole log of a directory. `damage_in` reads a copy of one, so that nothing changes,
and says what the storage finds wrong there; it is how a fault in a file is confirmed. Called by the
faults and the judgement.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from esctl.clusters.state import Cluster, Node
from esnode import limits
from esnode.errors import DamagedRecord
from esnode.storage.directory import MARK_FILE, trust_copy
from esnode.storage.engines import open_storage
from esnode.storage.identity import REJOIN_FILE, read_title
from esnode.storage.interface import Identity, pages

SET_ASIDE: Final = "damaged-*"
"""Where a node puts files that it does not believe any more."""


@dataclass(frozen=True, slots=True)
class FileLog:
    """The events in a node's files, in order: the packed keys of all, a hash of what was asked for."""

    first_offset: int
    keys: bytes
    events_hash: str
    """Of keys and contents."""

    @property
    def next_offset(self) -> int:
        return self.first_offset + len(self.keys) // limits.KEY_BYTES


def first_offset_in(cluster: Cluster, node: Node) -> int:
    """Where the log in a stopped node's files begins; raises `DamagedRecord`."""
    storage = open_storage(cluster.storage, node.data_dir, Identity(cluster.identity, node.id))
    try:
        snapshot = storage.load_snapshot()
        return snapshot.next_offset if snapshot is not None else 0
    finally:
        storage.close()


def read_files(cluster: Cluster, node: Node, from_offset: int, to_offset: int) -> FileLog:
    """The whole log, its hash from `from_offset` to `to_offset`; raises `DamagedRecord`."""
    return _read(node.data_dir, cluster, node, from_offset, to_offset)


def damage_in(cluster: Cluster, node: Node, scratch: Path) -> str:
    """What is wrong with the stopped node's files; empty when nothing."""
    try:
        _read_copy(cluster, node, scratch)
    except DamagedRecord as error:
        return str(error)
    return ""


def next_offset_in(cluster: Cluster, node: Node, scratch: Path) -> int:
    """The end of the log in the stopped node's files; raises `DamagedRecord`."""
    return _read_copy(cluster, node, scratch).next_offset


def _read_copy(cluster: Cluster, node: Node, scratch: Path) -> FileLog:
    copy = scratch / f"copy-of-node-{node.id}"
    shutil.copytree(node.data_dir, copy, ignore=shutil.ignore_patterns(SET_ASIDE))
    try:
        if not (copy / REJOIN_FILE).exists():
            trust_copy(copy, cluster.storage, Identity(cluster.identity, node.id))
        return _read(copy, cluster, node, 0, 0)
    finally:
        shutil.rmtree(copy)


def directory_name(node: Node) -> bytes:
    """The random name of its directory: a node that begins to rejoin takes a new one."""
    title = read_title(node.data_dir)
    return title.directory if title is not None else b""


def rejoins(node: Node) -> bool:
    """Is the marker of rejoining there?"""
    return (node.data_dir / REJOIN_FILE).exists()


def mark_file(node: Node) -> Path:
    """The file that remembers what was durable."""
    return node.data_dir / MARK_FILE


def _read(data_dir: Path, cluster: Cluster, node: Node, from_offset: int, to_offset: int) -> FileLog:
    storage = open_storage(cluster.storage, data_dir, Identity(cluster.identity, node.id))
    keys, digest = bytearray(), hashlib.blake2b(digest_size=16)
    try:
        found, snapshot = storage.recover(), storage.load_snapshot()
        first_offset = snapshot.next_offset if snapshot is not None else 0
        for page in pages(storage, found.prefix_index + 1, found.last_index, limits.MAX_FETCH_BYTES):
            for entry in page:
                keys += entry.keys
                if from_offset <= entry.base_offset < to_offset:  # prefixes are cut between entries
                    digest.update(entry.keys + entry.payload)
    finally:
        storage.close()
    return FileLog(first_offset, bytes(keys), digest.hexdigest())
