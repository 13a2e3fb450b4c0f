"""A cluster in memory that upkeep can be tried on: operations that move nodes whose state a test can see.

A node that starts is behind for as many looks as it needs to catch up; a leader that stops without having
handed over leaves an election behind, which is noted. With several partitions, a node may hand back what it
was handed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from esctl.clusters.backends.interface import NodeProcess, RunState
from esctl.clusters.state import Cluster, Node
from esctl.query.ringsurvey import RingSurvey
from esctl.query.survey import Report, Survey
from tests.esctl.wire_node import WireNode, log


@dataclass
class Crew:
    """See `upkeep.operations.NodeOperations`."""

    leader: int | None = 1
    """Of partition 0."""
    more: list[int] = field(default_factory=list)
    """The leaders of the partitions 1, 2, ..."""
    preferred: dict[int, int] = field(default_factory=dict)
    """The node that is to lead a partition, where that is known."""
    hands_back: dict[int, int] = field(default_factory=dict)
    """How often a partition goes back, after a hand-over, to the node that led it."""
    behind_in: set[tuple[int, int]] = field(default_factory=set)
    """Nodes that are behind in one partition: (node, partition)."""
    count: int = 3
    down: set[int] = field(default_factory=set)
    faults: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    looks_behind: int = 2
    """How many looks a node that was started needs to catch up."""
    lost: set[int] = field(default_factory=set)
    """Nodes that never catch up once they were restarted."""
    did: list[str] = field(default_factory=list)
    """What was done, in order."""
    rejoining: set[int] = field(default_factory=set)
    """Nodes that fetch their log from the others."""
    stop_s: float = 1.0
    _behind: dict[int, int] = field(default_factory=dict)
    _committed: int = 9

    @property
    def cluster(self) -> Cluster:
        home = Path("/none")
        nodes = tuple(
            Node(n, f"127.0.0.1:{7100 + n}", "127.0.0.1:1", home, home, home)
            for n in range(1, self.count + 1)
        )
        count = 1 + len(self.more)
        return Cluster(
            "crew", "crew-0a1b2c3d", "process", "sqlite", "2013-01-01T00:00:00Z", home, nodes, count
        )

    @property
    def leaders(self) -> list[int | None]:
        return [self.leader, *self.more]

    def _lead(self, partition: int, node: int) -> None:
        if partition:
            self.more[partition - 1] = node
        else:
            self.leader = node

    async def look(self) -> RingSurvey:
        self._committed += 5  # there is load: nobody is ever level with the leader's newest entry
        surveys = [
            Survey(
                self.cluster,
                [self._report(node, partition) for node in self.cluster.nodes],
                partition if self.more else None,
            )
            for partition in range(self.cluster.partitions)
        ]
        for number in list(self._behind):
            if number not in self.lost:
                self._behind[number] -= 1
                if not self._behind[number]:
                    del self._behind[number]
        return RingSurvey(self.cluster, surveys)

    async def confirm(self) -> list[int]:
        for partition, times in self.hands_back.items():
            if times:  # what was asked for is not handed back, but elections may come between
                self.hands_back[partition] -= 1
                self._lead(partition, self.preferred[partition])
        found = [leader for leader in self.leaders if leader is not None]
        assert len(found) == len(self.leaders)
        return found

    async def hand_over(self, leader: int, to: int | None, partition: int | None) -> None:
        assert leader == self.leaders[partition or 0]
        assert (partition is None) is (not self.more)
        others = [node.id for node in self.cluster.nodes if node.id not in (leader, *self.down)]
        self._lead(partition or 0, to or others[0])
        which = f" partition {partition}" if partition is not None else ""
        self.did.append(f"{leader} hands{which} over to {self.leaders[partition or 0]}")

    async def stop(self, number: int) -> bool:
        assert not self.down - {number}, "two nodes are down at the same time"
        await trio.sleep(self.stop_s)
        self.did.append(f"stop {number}")
        self.down.add(number)
        for partition, leader in enumerate(self.leaders):
            if leader == number:
                self._lead(partition, next(node.id for node in self.cluster.nodes if node.id != number))
                self.did.append("election")
        return False

    async def start(self, number: int, options: Sequence[str] = ()) -> int:
        self.did.append(" ".join(["start", str(number), *options]))
        self.down.discard(number)
        if self.looks_behind or number in self.lost:
            self._behind[number] = self.looks_behind or 1
        return 900 + number

    def _report(self, node: Node, partition: int) -> Report:
        state = RunState.DOWN if node.id in self.down else RunState.RUNNING
        if node.id in self.down:
            return Report(NodeProcess(node, state, None, None, None), None, "not running")
        leads = node.id == self.leaders[partition]
        lags = node.id in self._behind or (node.id, partition) in self.behind_in
        applied = 1 if lags else self._committed - (0 if leads else 3)
        status = WireNode(node.id, log(8)).status() | {
            "role": "leader" if leads else "follower",
            "leader": self.leaders[partition],
            "commit_index": self._committed if leads else applied,
            "applied_index": applied,
            "last_index": applied,
            "next_offset": 2 * applied,
            "faults": self.faults.get(node.id, []),
            "rejoining": node.id in self.rejoining,
        }
        if partition in self.preferred:
            status["placement"] = {"preferred": self.preferred[partition], "why": "placed", "wait_ms": 0}
        return Report(NodeProcess(node, state, 900 + node.id, 1_000, 61.0), status)
