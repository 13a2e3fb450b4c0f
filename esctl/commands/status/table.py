"""`esctl status`: every configured node a row, always, whatever state it is in."""

from typing import TYPE_CHECKING, Annotated, Final, Literal, TypedDict

from esctl.clusters.backends.interface import RunState
from esctl.exits import Exit
from esctl.query.dedupstate import DedupState
from esctl.ui.answer import Answer, Cell, Fields, Table, Tone, Value, View, elapsed
from esctl.ui.formatting import duration, megabytes
from esctl.ui.values import Address, Count, ErrorCode, NodeId, Seconds

if TYPE_CHECKING:
    from esctl.faults.nodeorders import FaultData
    from esctl.query.ringsurvey import RingData, RingSurvey
    from esctl.query.survey import QuorumData, Report, Survey

CLOCK_OFF_MS: Final = 1_000
"""Less is what clocks of different machines may well differ by."""


RoleName = Literal["leader", "follower", "candidate", "pre-candidate"]


class RefusalData(TypedDict):
    """A node that is there and does not talk to another one, and why."""

    peer: NodeId
    code: ErrorCode
    reason: str


class StatusRow(TypedDict):
    """A node; null is what cannot be known of one that does not answer."""

    id: NodeId
    pid: int | None
    up: bool
    state: RunState
    why: str | None
    role: RoleName | None
    rejoining: bool
    term: Count | None
    last_index: Count | None
    commit_index: Count | None
    applied_index: Count | None
    lag_entries: int | None
    lag_events: int | None
    first_offset: Count | None
    next_offset: Count | None
    rss_bytes: Count | None
    uptime_s: Seconds | None
    address: Address
    clock_off_ms: Annotated[int | None, "At least so far its wall clock is ahead of this machine's"]
    refusals: Annotated[list[RefusalData], "Nodes that are there and do not talk to it"]
    faults: "list[FaultData]"


class ReplicaRow(TypedDict):
    """A node's part in one partition; null is what cannot be known of one that does not answer."""

    id: NodeId
    up: bool
    why: str | None
    role: RoleName | None
    rejoining: bool
    pid: int | None
    next_offset: Count | None
    lag_events: int | None
    rss_bytes: Count | None


class PartitionRow(TypedDict):
    """A partition: who leads it, how long its log is, and what it owns."""

    id: Count
    leader: NodeId | None
    term: Count | None
    next_offset: Annotated[Count | None, "Of its leader; null where nobody leads"]
    share: Annotated[float, ("minimum", 0), ("maximum", 1), "The part of the circle that it owns"]
    nodes: list[ReplicaRow]


class StatusAnswer(TypedDict):
    """Every configured node, and every partition.

    With several partitions, what a node says of its log and its role is by partition only, and null here.
    """

    cluster: str
    leader: NodeId | None
    term: Count | None
    quorum: Annotated["QuorumData", "With several partitions, that of the worst"]
    storage: str
    nodes: list[StatusRow]
    ring: "RingData"
    partitions: list[PartitionRow]


def answer_of(survey: "Survey") -> Answer[StatusAnswer]:
    """The answer for one partition. When no node answers, the rows are there all the same."""
    from esctl.query.ringsurvey import RingSurvey

    ring = RingSurvey(survey.cluster, [survey])
    data: StatusAnswer = {
        "cluster": survey.cluster.name,
        "leader": survey.leader.node.id if survey.leader is not None else None,
        "term": survey.term or None,
        "quorum": survey.quorum_data(),
        "storage": survey.cluster.storage,
        "nodes": [node_data(survey, report) for report in survey.reports],
        "ring": ring.ring_data(),
        "partitions": partition_rows(ring),
    }
    if survey.up:
        return Answer(data, _views(survey))
    return Answer(data, _views(survey), [survey.nobody], Exit.UNREACHABLE)


def warnings(survey: "Survey") -> list[str]:
    """What the operator should know that is in no column, with the command to type next."""
    from esctl.query import leaderplacement  # loaded late: it brings trio and the client

    name = f"--cluster {survey.cluster.name}"
    if not survey.up:
        return []
    found = [f"node {r.node.id} is {_ailing(r)}; next: {r.next_step} {name}" for r in survey.down]
    if survey.leader is None and survey.may_fail >= 0:  # without a majority, waiting helps nobody
        found.append(f"nobody leads at the moment; next: esctl status health --wait 10s {name}")
    found += [
        f"node {r.node.id} is rejoining: it fetches its log from the others and does not vote;"
        f" next: esctl status health --wait 1m {name}"
        for r in survey.rejoining
    ]
    found += [
        f"{text}: their histories have split (ES3120), keep all data directories; next: esctl why {name}"
        for text in survey.conflicts.values()
    ]
    found += [
        f"nodes {one} and {other} do not talk to each other ({code}): {why}; next: esctl why {name}"
        for (one, other), (code, why) in survey.refusals.items()
    ]
    found += _broken(survey)
    found += [
        f"the clock of node {r.node.id} is {duration(abs(r.clock_is_off_ms) / 1000)}"
        f" {'ahead of' if r.clock_is_off_ms > 0 else 'behind'} this machine's; its log's times are off,"
        f" nothing else; next: esctl doctor"
        for r in survey.up
        if abs(r.clock_is_off_ms) >= CLOCK_OFF_MS
    ]
    elsewhere = leaderplacement.note(survey)
    return found + _full_windows(survey) + [elsewhere] * bool(elsewhere)


def _full_windows(survey: "Survey") -> list[str]:
    """What the bound of the deduplication windows has cost."""
    name, found = f"--cluster {survey.cluster.name}", []
    for report in survey.up:
        state = DedupState.of(report.status)
        if state.forgotten_early:
            found.append(
                f"node {report.node.id} has forgotten {state.forgotten_early:,} keys before their time: sent"
                f" again, those events would be stored twice; next: esctl dedup {name}"
            )
        if state.refuses:
            found.append(
                f"node {report.node.id} refuses new events: its deduplication window is full; next: esctl"
                f" dedup {name}"
            )
    return found


def _broken(survey: "Survey") -> list[str]:
    """One line for one fault, however many nodes have a part in it."""
    nodes: dict[str, set[int]] = {}
    parts: dict[str, dict[str, int]] = {}
    for report in survey.reports:
        for fault in report.faults:
            base = fault["id"].partition(".")[0]
            nodes.setdefault(base, set()).add(report.node.id)
            left = parts.setdefault(base, {})
            left[fault["kind"]] = max(left.get(fault["kind"], 0), int(fault["left_ms"]))
    return [
        f"{_named(nodes[base])} broken on purpose: {base}"
        f" ({', '.join(kinds)}, {duration(max(kinds.values()) / 1000)} left);"
        f" next: esctl fault heal {base} --cluster {survey.cluster.name}"
        for base, kinds in parts.items()
    ]


def _named(nodes: set[int]) -> str:
    """`node 2 is`, or `nodes 1, 3 are`."""
    listed = ", ".join(map(str, sorted(nodes)))
    return f"node {listed} is" if len(nodes) == 1 else f"nodes {listed} are"


def _ailing(report: "Report") -> str:
    """What is wrong with a node that does not answer."""
    return "paused" if report.process.state is RunState.PAUSED else f"down: {report.why}"


def partition_rows(ring: "RingSurvey") -> list[PartitionRow]:
    """Every partition, for the JSON answer."""
    shares = ring.shares
    return [
        {
            "id": number,
            "leader": survey.leader.node.id if survey.leader is not None else None,
            "term": survey.term or None,
            "next_offset": survey.leader.number("next_offset") if survey.leader is not None else None,
            "share": round(shares[number], 6),
            "nodes": [_replica_row(survey, report) for report in survey.reports],
        }
        for number, survey in enumerate(ring.partitions)
    ]


def _replica_row(survey: "Survey", report: "Report") -> ReplicaRow:
    return {
        "id": report.node.id,
        "up": report.up,
        "why": report.why or None,
        "role": report.status["role"] if report.status is not None else None,
        "rejoining": report.rejoining,
        "pid": report.number("pid"),
        "next_offset": report.number("next_offset"),
        "lag_events": survey.behind(report, "next_offset"),
        "rss_bytes": report.number("rss_bytes"),
    }


def node_data(survey: "Survey", report: "Report") -> StatusRow:
    """A node of the only partition, for the JSON answer."""
    status = report.status
    return {
        "id": report.node.id,
        "pid": report.number("pid") or report.process.pid,
        "up": report.up,
        "state": report.process.state,
        "why": report.why or None,
        "role": status["role"] if status is not None else None,
        "rejoining": report.rejoining,
        "term": report.number("term"),
        "last_index": report.number("last_index"),
        "commit_index": report.number("commit_index"),
        "applied_index": report.number("applied_index"),
        "lag_entries": survey.behind(report, "applied_index"),
        "lag_events": survey.behind(report, "next_offset"),
        "first_offset": report.number("first_offset"),
        "next_offset": report.number("next_offset"),
        "rss_bytes": report.number("rss_bytes") or report.process.rss_bytes,
        "uptime_s": report.process.uptime_s if status is None else status.get("uptime_s"),
        "address": report.node.client,
        "clock_off_ms": report.clock_is_off_ms if report.clock_off_ms is not None else None,
        "refusals": [
            {"peer": peer, "code": code, "reason": why} for peer, (code, why) in report.refusals.items()
        ],
        "faults": report.faults,
    }


def quorum_tone(survey: "Survey") -> Tone:
    """How it looks that so many more nodes may fail."""
    held = survey.may_fail > 0 or (survey.may_fail == 0 and len(survey.cluster.nodes) == 1)
    return Tone.GOOD if held else Tone.WARN if survey.may_fail == 0 else Tone.BAD


def _views(survey: "Survey") -> list[View]:
    leader = survey.leader
    head = Fields(
        [
            ("cluster", Cell(survey.cluster.name, Tone.STRONG)),
            ("leader", Cell(f"node {leader.node.id}", Tone.GOOD) if leader else Cell("none", Tone.BAD)),
            ("term", str(survey.term) if survey.up else None),
            ("quorum", Cell(survey.quorum_text, quorum_tone(survey))),
            ("storage", survey.cluster.storage),
        ]
    )
    columns = ["node", "role", "term", "applied", "lag", "next", "memory", "up for"]
    return [head, Table(columns, [_row(survey, report) for report in survey.reports])]


def _row(survey: "Survey", report: "Report") -> list[Value]:
    role, lag = role_of(survey, report), survey.behind(report, "next_offset")
    return [
        report.node.id,
        role,
        *(report.number(name) for name in ("term", "applied_index")),
        Cell(lag, Tone.WARN) if lag else lag,
        report.number("next_offset"),
        megabytes(report.number("rss_bytes") or report.process.rss_bytes),
        elapsed(report.process.uptime_s),
    ]


def role_of(survey: "Survey", report: "Report") -> Cell:
    """Its role in a word, or why it has none."""
    if report.status is None:
        paused = report.process.state is RunState.PAUSED
        return Cell("paused", Tone.WARN) if paused else Cell("down", Tone.BAD)
    if report.leads:
        return Cell("leader", Tone.GOOD) if report == survey.leader else Cell("old leader", Tone.WARN)
    if report.rejoining:
        return Cell("rejoining", Tone.WARN)
    return Cell(report.status["role"], Tone.NORMAL if report.status["role"] == "follower" else Tone.WARN)
