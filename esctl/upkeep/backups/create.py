"""A backup of a running cluster: its log as a node has stored it, up to an end that a majority confirms.

Decides which node is asked (a follower where one answers, so that the leader is left alone) and what happens
if a node fails: the next one continues at the same entry, since all have the same records. Memory holds
a page. Never prints. Called by `esctl backup`.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import trio

from esctl.clusters.state import Cluster, Node
from esctl.errors import BackupOvertaken, FileTaken, MachineRefused
from esctl.query import survey as surveys
from esctl.query.barrier import confirmed_end
from esctl.query.survey import Survey
from esnode import limits
from esnode.backup.file import BackupWriter
from esnode.backup.manifest import Manifest, Origin
from esnode.client import NodeLink, connect_node
from esnode.config import Ancestor, Dedup
from esnode.errors import (
    Busy,
    ConnectionLost,
    EventStreamError,
    OffsetOutOfRange,
    OperationTimeout,
    Rejoining,
    Unreachable,
)

TRIES: Final = 3
"""How often it is begun anew when retention has cut what was to be read next."""
PATIENCE_S: Final = 10.0
"""For a node that is behind the end and gets no nearer."""
ROUND_S: Final = 0.05
_GONE: Final = (Busy, ConnectionLost, OperationTimeout, Rejoining, Unreachable)


class BackupProgress(Protocol):
    """Who is told how far it has come; `terminal.Progress` is one."""

    def advance(self, amount: int = 1) -> None:
        """So many more events are written."""


async def take(
    cluster: Cluster,
    into: Path,
    number: int | None,
    begin: Callable[[int], BackupProgress],
    partition: int | None = None,
) -> Manifest:
    """Write the backup `into`, from the node `number` or the one that can best be asked.

    With several partitions, that of one of them.
    `begin` is called with the number of events of each try. Raises `FileTaken`, `MachineRefused`,
    `BackupOvertaken`, `NoQuorum`, `Unreachable`, `OperationTimeout`, `DamagedRecord`, `DamagedBackup`.
    """
    last: EventStreamError | None = None
    for _ in range(TRIES):
        try:
            return await _try(cluster, into, number, begin, partition)
        except OffsetOutOfRange as error:
            last = error
        except FileExistsError as error:
            raise FileTaken(f"{into} exists already; it was not touched") from error
        except OSError as error:
            raise MachineRefused(f"{into} cannot be written: {error.strerror or error}") from error
    raise BackupOvertaken(
        f"retention cut the log of {cluster.name} while it was read, {TRIES} times"
    ) from last


async def _try(
    cluster: Cluster,
    into: Path,
    number: int | None,
    begin: Callable[[int], BackupProgress],
    partition: int | None,
) -> Manifest:
    end = await confirmed_end(cluster, partition=partition)
    async with _link(cluster, cluster.node(end.leader), partition) as link:
        target = (await link.read_entries(limits.MAX_INDEX, linearizable=True)).applied_index
    survey = await surveys.ask(cluster, partition=partition)
    nodes = [cluster.node(number)] if number is not None else _sources(survey, end.leader)
    watcher = begin(end.next_offset - end.first_offset)
    with BackupWriter(into) as writer:
        status = await _from_any(cluster, nodes, writer, target, watcher, partition)
        origin = origin_of(cluster, status, writer.next_offset)
        return await trio.to_thread.run_sync(partial(writer.finish, origin))


def origin_of(cluster: Cluster, status: dict[str, Any], known_offset: int) -> Origin:
    """What a running node's status says of where its log comes from; all that it gives is committed."""
    dedup = status["dedup"]
    return Origin(
        cluster=cluster.identity,
        name=cluster.name,
        ancestors=tuple(Ancestor(*each) for each in status["ancestors"]),
        node=status["id"],
        online=True,
        created=now_text(),
        known_commit=status["commit_index"],
        known_offset=known_offset,
        dedup=Dedup.of_keys(dedup["max_keys"], dedup["ttl_ms"], dedup["when_full"]),
    )


def now_text() -> str:
    """The wall clock, for people: nothing is decided by it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _sources(survey: Survey, leader: int) -> list[Node]:
    """The nodes that may be asked: followers first, those that are furthest before the others."""
    fit = [report for report in survey.up if not report.rejoining]
    fit.sort(key=lambda report: (report.node.id == leader, -(report.number("applied_index") or 0)))
    return [report.node for report in fit]


def _link(cluster: Cluster, node: Node, partition: int | None) -> NodeLink:
    return connect_node(node.client, cluster=cluster.identity, partition=partition)


async def _from_any(
    cluster: Cluster,
    nodes: Sequence[Node],
    writer: BackupWriter,
    target: int,
    watcher: BackupProgress,
    partition: int | None,
) -> dict[str, Any]:
    """Read from one node after the other until the entry at `target` is there; the status of the last."""
    error: EventStreamError = Unreachable(f"no node of {cluster.name} can be asked")
    for node in nodes:
        try:
            async with _link(cluster, node, partition) as link:
                await _from_one(link, writer, target, watcher)
                return await link.status()
        except _GONE as gone:
            if writer.snapshot_left:  # the next node's is another one
                raise OffsetOutOfRange("the snapshot came in part only") from gone
            error = gone
    raise error


async def _from_one(link: NodeLink, writer: BackupWriter, target: int, watcher: BackupProgress) -> None:
    if writer.next_index == 1 and not writer.has_snapshot:
        await link.fetch_snapshot(writer.add_piece)
    patience = trio.current_time() + PATIENCE_S
    while writer.next_index <= target:
        page = await link.read_entries(writer.next_index)
        if page.records:
            watcher.advance(writer.add(page.records))
            patience = trio.current_time() + PATIENCE_S
        elif trio.current_time() > patience:
            raise OperationTimeout(
                f"the node at {link.address} has applied {page.applied_index} of {target} entries, no more"
            )
        else:
            await trio.sleep(ROUND_S)  # a follower that is behind: a read does not wait for more
