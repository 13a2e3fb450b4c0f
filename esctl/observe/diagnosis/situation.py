"""Everything that a diagnosis goes by, gathered once: the rules look at nothing else.

Pure values, and the few figures that several rules need: how far a follower is behind and how fast that
changes. Filled by `collect.py`, or by a test. Called by the rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from esctl.clusters.backends.interface import NodeProcess, RunState
from esctl.clusters.rolechanges import RoleChange
from esctl.observe.diagnosis.lastwords import LastWords, Repair
from esctl.query.lostlog import Shortened
from esctl.query.survey import Report, Survey
from esnode.config import Config
from esnode.errors import EventStreamError

LEAST_FREE_PERCENT: Final = 5.0
_OF_ONE_PARTITION: Final = ("dedup", "leader transfer")
VERY_LOW_PERCENT: Final = 1.0
"""With less room than this left, a disk is about to be full."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system of a node's data directory."""

    free_bytes: int
    total_bytes: int

    @property
    def free_percent(self) -> float:
        """What is left of it."""
        return 100 * self.free_bytes / self.total_bytes if self.total_bytes else 0.0


@dataclass(frozen=True, slots=True)
class StruckProcess:
    """A node that a fault has killed or paused."""

    fault: str
    kind: str
    """`kill` or `pause`."""
    node: int
    left_ms: int


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a follower is behind its leader, and how that has changed between two looks."""

    events: int
    before: int
    """The same at the first look."""
    taken_per_s: float
    """Events a second that the follower has gained."""
    led_per_s: float
    """Events a second that the leader has gained."""

    @property
    def closing_per_s(self) -> float:
        """Events a second by which the gap becomes smaller; negative when it grows."""
        return self.taken_per_s - self.led_per_s

    @property
    def left_s(self) -> float | None:
        """How long until there is no gap, if it goes on like this; None when it does not close."""
        return self.events / self.closing_per_s if self.closing_per_s > 0 else None


@dataclass(frozen=True, slots=True)
class Situation:
    """One cluster at one moment, or two moments `apart_s` from each other."""

    looks: Sequence[Survey]
    """The first look, and a later one where one look could not tell."""
    apart_s: float = 0.0
    read_error: EventStreamError | None = None
    """Why no majority confirmed where the log ends; None when one did, or when it was not asked."""
    read_ms: float | None = None
    """How long a confirmed read took; None when there was none."""
    words: Mapping[int, LastWords] = field(default_factory=dict)
    """Of the nodes whose process is gone."""
    killed_by_us: frozenset[int] = frozenset()
    """Nodes that are down because `esctl` ended them: their note is gone too."""
    rebooted: frozenset[int] = frozenset()
    """Nodes whose process belongs to an earlier boot of the machine."""
    without_data: frozenset[int] = frozenset()
    """Nodes whose data directory is gone."""
    shortened: Shortened | None = None
    """How much of the log is gone that its nodes have said was applied; None where none is."""
    repairs: Mapping[int, Repair] = field(default_factory=dict)
    elections: Sequence[RoleChange] = ()
    """Of the last seconds."""
    disks: Mapping[int, Disk] = field(default_factory=dict)
    struck: Sequence[StruckProcess] = ()
    bad_configs: Mapping[int, str] = field(default_factory=dict)
    """Why a node's configuration does not load, for those whose does not."""
    files: Mapping[int, Config] = field(default_factory=dict)
    """The other nodes' configurations, as they are written now."""
    retention_bytes: Mapping[int, int] = field(default_factory=dict)
    """The bound of each node's log; nodes without one are left out."""
    least_free_percent: float = LEAST_FREE_PERCENT

    @property
    def survey(self) -> Survey:
        """The last look."""
        return self.looks[-1]

    @property
    def missing(self) -> list[Report]:
        """The nodes that do not answer."""
        return self.survey.down

    def command(self, words: str) -> str:
        """`esctl WORDS`, about this cluster; with several partitions, about this one where that is asked."""
        only = self.survey.partition
        named = f" --partition {only}" if only is not None and words.startswith(_OF_ONE_PARTITION) else ""
        return f"esctl {words}{named} --cluster {self.survey.cluster.name}"

    def elsewhere(self, number: int) -> str:
        """The command that moves a node to another disk; empty where the others cannot do without it."""
        cluster = self.survey.cluster
        others = [one for one in (*self.missing, *self.survey.rejoining) if one.node.id != number]
        if len(cluster.nodes) - 1 < cluster.quorum or others:
            return ""
        return self.command(f"node replace {number} --data-dir DIR")

    def has_no_room(self, number: int) -> bool:
        """Is the disk of the node as good as full now?"""
        disk = self.disks.get(number)
        return disk is not None and disk.free_percent < max(VERY_LOW_PERCENT, self.least_free_percent)

    def process_of(self, number: int) -> NodeProcess:
        """What the operating system says of a node."""
        return self.survey.report(number).process

    def struck_process(self, number: int) -> StruckProcess | None:
        """The fault that keeps the node from running, if one does."""
        state = self.process_of(number).state
        if self.survey.partition in self.process_of(number).paused_partitions:
            state = RunState.PAUSED
        kinds = {RunState.DOWN: "kill", RunState.PAUSED: "pause"}
        wanted = [one for one in self.struck if one.node == number and one.kind == kinds.get(state)]
        return wanted[0] if wanted else None

    def lag(self, report: Report) -> Lag | None:
        """How the follower's gap changes; None where two looks do not tell, or there is no leader."""
        first, last = self.looks[0], self.looks[-1]
        leader, behind = last.leader, last.behind(report, "next_offset")
        if first is last or leader is None or behind is None or report.node == leader.node:
            return None
        led_before, taken_before = (first.report(r.node.id).number("next_offset") for r in (leader, report))
        led, taken = leader.number("next_offset"), report.number("next_offset")
        if led_before is None or taken_before is None or led is None or taken is None:
            return None
        return Lag(
            events=behind,
            before=max(0, led_before - taken_before),
            taken_per_s=(taken - taken_before) / self.apart_s,
            led_per_s=(led - led_before) / self.apart_s,
        )

    def still_behind(self, report: Report) -> bool:
        """Has the follower not even what its leader had at the first look?"""
        leader = self.looks[-1].leader
        if leader is None or report.node == leader.node or len(self.looks) == 1:
            return False
        led_before = self.looks[0].report(leader.node.id).number("next_offset")
        taken = report.number("next_offset")
        return led_before is not None and taken is not None and taken < led_before
