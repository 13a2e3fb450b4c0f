"""The drill: restores a backup into a temporary cluster, and compares.

Decides what has to be the same: the hash of all events up to the end of the backup, on every node of the
source, on every restored node, and in the manifest. Events that are sent again to the restored cluster must
be recognised. The source may accept events meanwhile. Never prints. Called by `esctl backup drill`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from esctl.clusters.state import Cluster, Node
from esctl.query.barrier import reason_of
from esnode import limits
from esnode.backup.chain import ContentHash
from esnode.backup.file import BackupReader
from esnode.backup.manifest import Manifest
from esnode.client import connect, connect_node
from esnode.dedup.batch import Batch
from esnode.errors import DamagedBackup, DamagedRecord, EventStreamError, OperationTimeout
from esnode.raft.entry import Entry, EntryKind, parse

ANSWER_S: Final = 5.0
PATIENCE_S: Final = 10.0
"""For a node that is behind the end of the backup."""
ROUND_S: Final = 0.05
SENT_AGAIN: Final = 16
"""Entries whose events are sent again."""


class DrillProgress(Protocol):
    """Who is told how far it has come."""

    def advance(self, amount: int = 1) -> None:
        """So many more events of one node are compared."""


@dataclass(frozen=True, slots=True)
class DrillCopy:
    """One node's events up to the end: their hash, or why there is none."""

    cluster: str
    node: int
    hash: str | None
    why: str = ""


@dataclass(slots=True)
class DrillFindings:
    """What came out."""

    copies: list[DrillCopy] = field(default_factory=list)
    sent_again: int = 0
    known_again: int = 0

    def wrong(self, manifest: Manifest) -> list[str]:
        """What is not as it should be."""
        found = [
            f"node {copy.node} of {copy.cluster} has other events: its hash is {copy.hash}"
            for copy in self.copies
            if copy.hash is not None and copy.hash != manifest.content_hash
        ]
        if self.known_again < self.sent_again:
            new = self.sent_again - self.known_again
            found.append(f"{new} of {self.sent_again} events that were sent again were taken for new")
        return found

    @property
    def doubts(self) -> list[str]:
        """What could not be looked at."""
        return [
            f"node {copy.node} of {copy.cluster}: {copy.why}" for copy in self.copies if copy.hash is None
        ]


async def compare(
    source: Cluster,
    restored: Cluster,
    reader: BackupReader,
    begin: Callable[[int], DrillProgress],
    partition: int = 0,
) -> DrillFindings:
    """Hash every node of both clusters, each on its own, then send the last events again to the restored.

    `reader` has the backup of that partition.
    """
    findings, manifest = DrillFindings(), reader.manifest
    nodes = [(cluster, node) for cluster in (source, restored) for node in cluster.nodes]
    watcher = begin(manifest.events * len(nodes))

    async def look(cluster: Cluster, node: Node) -> None:
        try:
            found = await _hash_of(cluster, node, partition, manifest, watcher)
            findings.copies.append(DrillCopy(cluster.name, node.id, found))
        except (DamagedBackup, DamagedRecord) as error:
            findings.copies.append(DrillCopy(cluster.name, node.id, "none", str(error)))
        except EventStreamError as error:
            findings.copies.append(DrillCopy(cluster.name, node.id, None, reason_of(error)))

    async with trio.open_nursery() as nursery:
        for cluster, node in nodes:
            nursery.start_soon(look, cluster, node)
    findings.copies.sort(key=lambda copy: (copy.cluster != source.name, copy.node))
    findings.sent_again, findings.known_again = await _send_again(restored, reader)
    return findings


async def _hash_of(
    cluster: Cluster, node: Node, partition: int, manifest: Manifest, watcher: DrillProgress
) -> str:
    """The hash of one node's events from the first to the last of the backup."""
    content = ContentHash(manifest.first_offset, manifest.next_offset)
    offset = manifest.first_offset
    patience = trio.current_time() + PATIENCE_S
    where = partition if cluster.partitions > 1 else None
    link_to = connect_node(node.client, cluster=cluster.identity, partition=where, timeout_s=ANSWER_S)
    async with link_to as link:
        while offset < manifest.next_offset:
            page = await link.read_records(offset, manifest.next_offset - offset)
            begun = offset
            for record in page.records:
                entry = parse(record)
                if not entry.base_offset <= offset < entry.next_offset:
                    raise DamagedBackup(
                        f"node {node.id} gave offset {entry.base_offset} where {offset} was next"
                    )
                content.add(entry)
                offset = min(entry.next_offset, manifest.next_offset)
            watcher.advance(offset - begun)
            if offset > begun:
                patience = trio.current_time() + PATIENCE_S
            elif trio.current_time() > patience:
                raise OperationTimeout(f"it has the events before {page.next_offset}, and no more")
            else:
                await trio.sleep(ROUND_S)  # it is behind: a read does not wait for more
    return content.hexdigest()


async def _send_again(restored: Cluster, reader: BackupReader) -> tuple[int, int]:
    """Send the last events of the backup to the restored cluster; how many, and how many were known."""
    entries = await trio.to_thread.run_sync(_last_entries, reader)
    sent = known = 0
    async with connect(restored.addresses, cluster=restored.identity) as log:
        for entry in entries:
            ack = await log.append_batch(Batch(entry.count, entry.keys, entry.payload))
            sent, known = sent + entry.count, known + ack.duplicates
    return sent, known


def _last_entries(reader: BackupReader) -> Sequence[Entry]:
    """The last ones that have events, and whose keys are still known at the end of the log."""
    manifest, found = reader.manifest, list[Entry]()
    ttl_ms = manifest.origin.dedup.ttl_ms
    oldest_ms = manifest.log_time_ms - ttl_ms if ttl_ms else -1
    for page in reader.pages():
        batches = [entry for entry in page if entry.kind is EntryKind.BATCH]
        found += [e for e in batches if e.count <= limits.MAX_BATCH_EVENTS and e.log_time_ms > oldest_ms]
        found = found[-SENT_AGAIN:]
    room = manifest.origin.dedup.max_keys
    return [entry for entry in found if manifest.next_offset - entry.base_offset <= room]
