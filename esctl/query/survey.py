"""Every configured node asked at the same time how it is, and what the answers say together.

A node that does not answer is a row like any other, with the reason as far as it can be told; none can
hold the others up. Decides who leads, who lags and whether a majority answers. Changes nothing and never
prints. A survey is of one partition: where there are several, each node is asked through its process
for that one. Called by `status`, `why`, `top`, `leader`, `dedup`, `produce`, `verify` and `ringsurvey.py`.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, TypedDict

import trio

from esctl.clusters import nodelog
from esctl.clusters.backends import backend_named, datadir
from esctl.clusters.backends.interface import ANSWER_TIMEOUT_S, NodeProcess, RunState
from esctl.clusters.state import Cluster, Node
from esctl.errors import OnePartitionOnly
from esctl.faults import linkcuts
from esctl.faults.nodeorders import FaultData
from esctl.query.barrier import reason_of
from esctl.ui.answer import Trouble
from esctl.ui.formatting import duration
from esctl.ui.values import Count
from esnode.client import connect_node
from esnode.dataclass import dataclass
from esnode.errors import EventStreamError, HistoryConflict, PartitionDown, ProtocolError, Unreachable

PAUSED_TIMEOUT_S: Final = 0.5
"""A node that stands still answers only if somebody resumes it meanwhile."""
MAX_LAG_EVENTS: Final = 100_000
"""A node that is further behind cannot take over quickly, and no majority is made with it."""
LAST_WORDS_BYTES: Final = 8192
"""The end of a log in which a node that has ended says why."""


class QuorumData(TypedDict):
    """How many nodes answer, and how many more may fail."""

    needed: Count
    up: Count
    counted: Annotated[Count, "Those that answer, vote, are heard by the leader and near its end"]
    total: Count
    may_fail: Count
    held: bool


@dataclass(frozen=True, slots=True)
class Report:
    """One node: its process, and its own status or the reason why there is none."""

    process: NodeProcess
    status: dict[str, Any] | None
    why: str = ""
    link_cuts: Sequence[FaultData] = ()
    """The cuts of its real links, where it has some: it does not know of them."""
    heard_ms: int = 0
    """What this machine's wall clock showed when the answer came; 0 when none did."""
    asked_ms: int = 0
    """What it showed when the question left."""
    contradicts: str = ""
    """How its history contradicted its leader's, in its last words; empty when it did not end by that."""
    without_data: bool = False
    """Does it not answer, and is its data directory gone, or the log that was in it?"""

    @property
    def node(self) -> Node:
        """Which node."""
        return self.process.node

    @property
    def up(self) -> bool:
        """Did it answer?"""
        return self.status is not None

    @property
    def leads(self) -> bool:
        """Does it say that it leads?"""
        return self.status is not None and self.status["role"] == "leader"

    @property
    def rejoining(self) -> bool:
        """Does it fetch its log from the others, without a vote, since it cannot trust its own disk?"""
        return self.status is not None and self.status.get("rejoining") is True

    @property
    def rejoin_cause(self) -> str:
        """Why it cannot: copy, peers, operator or damage; empty when it does not say."""
        return str((self.status or {}).get("rejoin_cause") or "")

    @property
    def refusals(self) -> dict[int, tuple[str, str]]:
        """Which other nodes are there and do not talk to it: of each the error's code, and why."""
        peers = (self.status or {}).get("peers") or {}
        told = {int(peer): picture.get("refused") for peer, picture in peers.items()}
        return {peer: (str(one["code"]), str(one["reason"])) for peer, one in told.items() if one}

    @property
    def faults(self) -> list[FaultData]:
        """What it is broken by on purpose."""
        return [*((self.status or {}).get("faults") or []), *self.link_cuts]

    @property
    def clock_off_ms(self) -> tuple[int, int] | None:
        """Between which two its wall clock is ahead of this machine's; None when that is not known."""
        told = (self.status or {}).get("wall_time_ms")
        if type(told) is not int or not self.asked_ms or not self.heard_ms:
            return None
        return told - self.heard_ms - 1, told - self.asked_ms

    @property
    def clock_is_off_ms(self) -> int:
        """By how much at least its wall clock differs from this machine's; 0 when it need not."""
        low, high = self.clock_off_ms or (0, 0)
        return 0 if low <= 0 <= high else min(low, high, key=abs)

    @property
    def faults_text(self) -> str:
        """For people."""
        return ", ".join(
            f"{fault['id']} ({fault['kind']}, {duration(fault['left_ms'] / 1000)} left)"
            for fault in self.faults
        )

    @property
    def next_step(self) -> str:
        """What to type when it is down; the cluster is not named."""
        return "esctl why" if self.contradicts else step_for(self.process)

    def number(self, name: str) -> int | None:
        """A whole number of its status; None when it has not answered."""
        return None if self.status is None else int(self.status[name])


@dataclass(frozen=True, slots=True)
class Survey:
    """All nodes, in the order of their numbers."""

    cluster: Cluster
    reports: Sequence[Report]
    partition: int | None = None
    """Which of several partitions it is about; None where there is one."""

    @property
    def processes(self) -> list[NodeProcess]:
        """All nodes' processes."""
        return [report.process for report in self.reports]

    @property
    def up(self) -> list[Report]:
        """Those that answered."""
        return [report for report in self.reports if report.up]

    @property
    def down(self) -> list[Report]:
        """Those that did not."""
        return [report for report in self.reports if not report.up]

    @property
    def rejoining(self) -> list[Report]:
        """Those that answered and do not vote."""
        return [report for report in self.reports if report.rejoining]

    @property
    def unheard(self) -> frozenset[int]:
        """Nodes that the leader has not heard for an election time, whatever they answer here.

        Empty where nobody leads: then nobody says whom it hears.
        """
        return frozenset(number for number, link in self._links.items() if link.get("heard") is False)

    @property
    def far_behind(self) -> frozenset[int]:
        """Nodes that lack so much of the leader's log that it cannot count on them yet."""
        waiting = {number for number, link in self._links.items() if link.get("state") == "snapshot"}
        lags = {report.node.id: self.behind(report, "next_offset") or 0 for report in self.up}
        return frozenset(waiting | {number for number, lag in lags.items() if lag > MAX_LAG_EVENTS})

    @property
    def counted(self) -> frozenset[int]:
        """The nodes that make a majority: they answer, vote, are heard by the leader and near its end.

        Where nobody leads, nobody says whom it hears: then all that answer and vote could make one.
        """
        voting = {report.node.id for report in self.up if not report.rejoining}
        return frozenset(voting - self.unheard - self.far_behind)

    @property
    def uncounted(self) -> frozenset[int]:
        """Nodes that run, and that no majority is made with: for the guards, which count processes."""
        if self.leader is None:
            return frozenset(report.node.id for report in self.rejoining)
        running = {p.node.id for p in self.processes if p.state is RunState.RUNNING}
        return frozenset(running - self.counted)

    @property
    def may_fail(self) -> int:
        """How many more nodes may fail before nothing is acked any more; negative when too many have."""
        return len(self.counted) - self.cluster.quorum

    @property
    def _links(self) -> dict[int, dict[str, Any]]:
        """What the leader says of its followers, by number."""
        told = (self.leader.status or {}).get("peers") if self.leader is not None else None
        return {int(number): link for number, link in (told or {}).items()}

    @property
    def term(self) -> int:
        """The highest term that any node knows of; 0 when none answered."""
        return max((report.number("term") or 0 for report in self.reports), default=0)

    @property
    def leader(self) -> Report | None:
        """The node that says it leads, in the highest term in which one does.

        Not one that a majority has outvoted: a leader that was cut off or asleep learns that last.
        """
        claims = [report for report in self.reports if report.leads]
        if not claims:
            return None
        newest = max(claims, key=lambda report: report.number("term") or 0)
        newer = [r for r in self.up if (r.number("term") or 0) > (newest.number("term") or 0)]
        return None if len(newer) >= self.cluster.quorum else newest

    @property
    def data_is_gone(self) -> bool:
        """Do too few nodes answer, or have a log to start with, to make a majority?"""
        return sum(not report.without_data for report in self.reports) < self.cluster.quorum

    @property
    def nobody(self) -> Trouble:
        """The error when no node answers."""
        reasons = "; ".join(f"node {report.node.id}: {report.why}" for report in self.down)
        name = self.cluster.name
        running = any(report.process.state is not RunState.DOWN for report in self.down)
        helps = f"esctl logs --cluster {name}" if running else f"esctl cluster start {name}"
        if self.data_is_gone:
            helps = f"esctl why --cluster {name}"  # started, they would begin with an empty log
        return Trouble(Unreachable.code, f"no node of cluster {name} answers", reasons, helps)

    @property
    def conflicts(self) -> dict[int, str]:
        """Nodes whose committed history is not their leader's (ES3120), and what shows it.

        They say so themselves and end, or their leader does; and one that has applied more than its leader's
        log holds shows it to all.
        """
        found = {report.node.id: report.contradicts for report in self.reports if report.contradicts}
        leader = self.leader
        if leader is None:
            return found
        links = (leader.status or {}).get("peers") or {}
        for peer, link in links.items():
            if link.get("conflict"):
                found.setdefault(int(peer), str(link["conflict"]))
        ours = f"ends at entry {leader.number('last_index')} and offset {leader.number('next_offset')}"
        for report in self._ahead:
            theirs = f"entry {report.number('applied_index')} and offset {report.number('next_offset')}"
            text = f"node {report.node.id} has applied {theirs}; node {leader.node.id}, which leads, {ours}"
            found.setdefault(report.node.id, text)
        return found

    @property
    def _ahead(self) -> list[Report]:
        """Followers of the leader that have applied more than its log held when it was asked."""
        leader = self.leader
        if leader is None:
            return []
        end = leader.number("last_index") or 0
        same_term = [r for r in self.up if not r.leads and r.number("term") == leader.number("term")]
        return [report for report in same_term if (report.number("applied_index") or 0) > end]

    @property
    def refusals(self) -> dict[tuple[int, int], tuple[str, str]]:
        """Pairs of nodes, the lower number first, that do not talk to each other: code, and why."""
        found: dict[tuple[int, int], tuple[str, str]] = {}
        for report in self.up:
            for peer, why in report.refusals.items():
                found.setdefault((min(peer, report.node.id), max(peer, report.node.id)), why)
        return found

    def report(self, number: int) -> Report:
        """That of one node; raises `NodeNotFound`."""
        node = self.cluster.node(number)
        return next(report for report in self.reports if report.node == node)

    def behind(self, report: Report, name: str) -> int | None:
        """How far the node is behind the leader in `name`; None when either is unknown."""
        mine, leader = report.number(name), self.leader
        theirs = leader.number(name) if leader is not None else None
        # The answers are some milliseconds apart: a follower may seem to be ahead.
        return None if mine is None or theirs is None else max(0, theirs - mine)

    @property
    def serves(self) -> bool:
        """Is there a leader with a majority that it hears?"""
        return self.leader is not None and self.may_fail >= 0

    @property
    def quorum_text(self) -> str:
        """For people."""
        up = {report.node.id for report in self.up}
        out = {
            "rejoining": len(self.rejoining),
            "not heard by the leader": len(self.unheard & up),
            "far behind": len((self.far_behind - self.unheard) & up),
        }
        but = "".join(f", {number} {what}" for what, number in out.items() if number)
        what = f"{len(up)} of {len(self.cluster.nodes)} up{but}, {self.cluster.quorum} needed"
        if self.may_fail < 0:
            return f"{what}: no quorum, nothing is acked"
        if self.leader is None:
            return f"{what}: nobody leads, nothing is acked"
        more = "none" if not self.may_fail else f"{self.may_fail}"
        return f"{what}: {more} more may fail"

    @property
    def state_text(self) -> str:
        """For people, in half a sentence."""
        leads = f"node {self.leader.node.id} leads" if self.leader is not None else "nobody leads"
        return f"{leads}, {self.quorum_text}"

    def quorum_data(self) -> QuorumData:
        """For the JSON answer."""
        return {
            "needed": self.cluster.quorum,
            "up": len(self.up),
            "counted": len(self.counted),
            "total": len(self.cluster.nodes),
            "may_fail": max(0, self.may_fail),
            "held": self.serves,
        }


async def ask(cluster: Cluster, timeout_s: float = ANSWER_TIMEOUT_S, partition: int | None = None) -> Survey:
    """Ask all nodes; takes no longer than `timeout_s` and a moment. Where there are several, of a partition.

    Raises `OnePartitionOnly` where there are several, and none is named.
    """
    if partition is None and cluster.partitions > 1:
        raise OnePartitionOnly(
            f"{cluster.name} has {cluster.partitions} partitions, and the question is about none of them",
            next_step=f"esctl status --cluster {cluster.name}",
        )
    processes = backend_named(cluster.backend).nodes(cluster)
    answers: dict[int, Report] = {}

    async def ask_one(process: NodeProcess) -> None:
        answers[process.node.id] = await _report(cluster, process, timeout_s, partition)

    async with trio.open_nursery() as nursery:
        for process in processes:
            nursery.start_soon(ask_one, process)
    cuts = linkcuts.pictures(cluster)
    reports = [
        replace(
            answers[p.node.id],
            link_cuts=cuts.get(p.node.id, ()),
            contradicts=_last_conflict(cluster, answers[p.node.id], partition),
            without_data=not answers[p.node.id].up and datadir.has_lost_its_log(p.node, partition),
        )
        for p in processes
    ]
    if any(report.up and report.process.state is not RunState.RUNNING for report in reports):
        # Started or resumed since the processes were looked at: a look must not contradict itself.
        now = {process.node.id: process for process in backend_named(cluster.backend).nodes(cluster)}
        reports = [replace(report, process=now[report.node.id]) for report in reports]
    survey = Survey(cluster, reports, partition)
    if survey._ahead and survey.leader is not None:
        # Its answer may be older than theirs: what it says now decides.
        newer = await _report(cluster, survey.leader.process, timeout_s, partition)
        if newer.up:
            told = replace(
                survey.leader, status=newer.status, heard_ms=newer.heard_ms, asked_ms=newer.asked_ms
            )
            reports = [told if report is survey.leader else report for report in reports]
    return Survey(cluster, reports, partition)


async def _report(cluster: Cluster, process: NodeProcess, timeout_s: float, partition: int | None) -> Report:
    if process.state is RunState.PAUSED:
        timeout_s = min(timeout_s, PAUSED_TIMEOUT_S)
    why = _silence(process, timeout_s)
    with trio.move_on_after(timeout_s):
        try:
            async with connect_node(process.node.client, partition=partition, timeout_s=timeout_s) as link:
                asked_ms = time.time_ns() // 1_000_000
                status = await link.status()
            return replace(_checked(cluster, process, status), asked_ms=asked_ms)
        except PartitionDown as error:
            ended = nodelog.last_error(process.node.log, partition)
            why = f"{reason_of(error)}: {ended}" if ended else reason_of(error)
        except EventStreamError as error:
            why = reason_of(error) if process.state is RunState.RUNNING else why
    return Report(process, None, why)


def _last_conflict(cluster: Cluster, report: Report, partition: int | None) -> str:
    """Why a node has ended whose last words are that its history contradicts its leader's; else empty."""
    ended = report.process.state is RunState.DOWN if partition is None else not report.up
    if not ended:
        return ""
    path = backend_named(cluster.backend).log_path(cluster, report.node.id)
    last = nodelog.last_line(path, report.node.id, LAST_WORDS_BYTES * cluster.partitions, partition)
    if last is None or last.event != "node_failed" or last.fields.get("code") != HistoryConflict.code:
        return ""
    return str(last.fields.get("reason", ""))


def step_for(process: NodeProcess) -> str:
    """What to type about a node that does not answer; the cluster is not named."""
    match process.state:
        case RunState.DOWN:
            return f"esctl node start {process.node.id}"
        case RunState.PAUSED:
            return f"esctl node resume {process.node.id}"
        case RunState.RUNNING:
            return f"esctl logs --node {process.node.id}"


def _silence(process: NodeProcess, timeout_s: float) -> str:
    """What it means when nothing comes."""
    match process.state:
        case RunState.DOWN:
            return "not running"
        case RunState.PAUSED:
            return "paused"
        case RunState.RUNNING:
            return f"runs, no answer in {duration(timeout_s)}"


def _checked(cluster: Cluster, process: NodeProcess, status: dict[str, Any]) -> Report:
    """The report of a node that answered, unless something else answers in its place."""
    if status.get("cluster") != cluster.identity or status.get("id") != process.node.id:
        who = f"node {status.get('id')} of {status.get('cluster')!r}"
        return Report(process, None, f"{who} answers on its address")
    missing = [name for name in NUMBERS if type(status.get(name)) is not int]
    if missing or not isinstance(status.get("role"), str):
        raise ProtocolError(f"its status has no {', '.join(missing) or 'role'}")
    return Report(process, status, heard_ms=time.time_ns() // 1_000_000)


NUMBERS: Final = (
    "pid", "term", "last_index", "commit_index", "applied_index", "first_offset", "next_offset", "rss_bytes",
)  # fmt: skip
"""What every status has, as whole numbers."""
