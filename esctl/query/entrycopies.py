"""Where one stored event is: its entry as each node has it, and who led when it was appended.

Asks every node for itself, so copies are compared and not believed. A node that does not answer is a row like
any other, with its reason. Reads nothing but the entry, a status and the ends of the logs. Never prints.
Called by `esctl event trace`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import trio

from esctl.clusters import nodelog, rolechanges
from esctl.clusters.backends import backend_named
from esctl.clusters.backends.interface import ANSWER_TIMEOUT_S
from esctl.clusters.rolechanges import LEADER, RoleChange
from esctl.clusters.state import Cluster, Node
from esctl.query.barrier import reason_of
from esctl.ui.formatting import duration
from esnode.client import KeyState, connect_node
from esnode.errors import DamagedRecord, EventStreamError, OffsetOutOfRange
from esnode.raft.entry import Entry, EntryKind, parse

LOOK_BACK_LINES: Final = 200_000
"""So many changes of role are looked through for a leader."""


@dataclass(frozen=True, slots=True)
class EntryCopy:
    """What one node has."""

    node: int
    entry: Entry | None = None
    why: str = ""
    """Why there is no entry."""
    status: Mapping[str, Any] | None = None
    key: KeyState | None = None
    """What its deduplication table knows of the event."""

    @property
    def up(self) -> bool:
        """Did it answer?"""
        return self.status is not None

    @property
    def crc(self) -> str:
        """The checksum of its record, in hexadecimal digits; empty without an entry."""
        return self.entry.record[:4].hex() if self.entry is not None else ""

    def reached(self, name: str, index: int) -> bool | None:
        """Is its position `name`, such as `durable_index`, at `index` or past it? None: it does not say."""
        position = (self.status or {}).get(name)
        return position >= index if isinstance(position, int) else None


async def copies(
    cluster: Cluster, offset: int, timeout_s: float = ANSWER_TIMEOUT_S, partition: int | None = None
) -> list[EntryCopy]:
    """The entry with the event at `offset` on every configured node, in the order of their numbers.

    With several partitions, in the log of one of them.
    """
    found: dict[int, EntryCopy] = {}

    async def ask(node: Node) -> None:
        found[node.id] = EntryCopy(node.id, why=f"no answer in {duration(timeout_s)}")
        with trio.move_on_after(timeout_s):
            try:
                found[node.id] = await _copy(cluster, node, offset, partition)
            except EventStreamError as error:
                found[node.id] = EntryCopy(node.id, why=reason_of(error))

    async with trio.open_nursery() as nursery:
        for node in cluster.nodes:
            nursery.start_soon(ask, node)
    return [found[node.id] for node in cluster.nodes]


async def _copy(cluster: Cluster, node: Node, offset: int, partition: int | None) -> EntryCopy:
    async with connect_node(node.client, cluster=cluster.identity, partition=partition) as link:
        status = await link.status()
        try:
            records = (await link.read_records(offset, 1)).records
            entry = _holding([parse(record) for record in records], offset)
        except OffsetOutOfRange:
            return EntryCopy(node.id, why="not kept any more: retention has cut it away", status=status)
        except DamagedRecord as error:
            return EntryCopy(node.id, why=f"damaged: {error}", status=status)
        except EventStreamError as error:
            return EntryCopy(node.id, why=reason_of(error), status=status)
        if entry is None:
            return EntryCopy(node.id, why="not applied yet", status=status)
        place = offset - entry.base_offset
        key = await link.explain_key(key_at(entry, place))
        return EntryCopy(node.id, entry, status=status, key=key)


def key_at(entry: Entry, place: int) -> bytes:
    """The key of the event at this place of the entry."""
    size = len(entry.keys) // max(1, entry.count)
    return entry.keys[place * size : (place + 1) * size]


def elected(cluster: Cluster, term: int, partition: int | None = None) -> RoleChange | None:
    """Who began to lead in the term; None where the logs do not tell, or not any more.

    With several partitions, in one of them.
    """
    backend = backend_named(cluster.backend)
    changed = f'"{rolechanges.ROLE_CHANGED}"'.encode()
    for node in cluster.nodes:
        path = backend.log_path(cluster, node.id)
        every = nodelog.backwards(path, node.id, nodelog.size(path), containing=changed)
        lines = (line for line in every if line.partition == partition)
        for change in rolechanges.role_changes(islice(lines, LOOK_BACK_LINES)):
            if (change.term, change.role) == (term, LEADER):
                return change
            if change.term < term:
                break
    return None


def _holding(entries: Sequence[Entry], offset: int) -> Entry | None:
    """The entry that has the event."""
    having = (
        one for one in entries if one.kind is EntryKind.BATCH and one.base_offset <= offset < one.next_offset
    )
    return next(having, None)
