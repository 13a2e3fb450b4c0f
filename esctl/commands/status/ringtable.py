"""`esctl status` of a cluster with several partitions: a row for each partition, and one for each node.

Decides how the processes of a node's partitions are summed up. What is said of one partition is in
`table.py`.
"""

from collections.abc import Sequence
from typing import Final

from esctl.clusters.backends.interface import RunState
from esctl.commands.status import table
from esctl.commands.status.table import StatusAnswer, StatusRow
from esctl.exits import Exit
from esctl.query.ringsurvey import RingSurvey
from esctl.query.survey import Report, Survey
from esctl.ui.answer import Answer, Cell, Fields, Table, Tone, Value, View, elapsed
from esctl.ui.formatting import megabytes, nodes_named, shared

MOST_COLUMNS: Final = 3
"""So many nodes have a column each on a screen of 80 characters."""


def warnings(ring: RingSurvey) -> list[str]:
    """What the operator should know that is in no column; once, however many partitions it is true of."""
    said = shared([table.warnings(survey) for survey in ring.partitions])
    return [f"{where}{text}" for where, text in said]


def answer_of(ring: RingSurvey) -> Answer[StatusAnswer]:
    """The answer of `esctl status`. When no node answers, the rows are there all the same."""
    worst = ring.worst
    data: StatusAnswer = {
        "cluster": ring.cluster.name,
        "leader": None,
        "term": None,
        "quorum": worst.quorum_data(),
        "storage": ring.cluster.storage,
        "nodes": [_node_data(ring, number) for number in range(len(ring.cluster.nodes))],
        "ring": ring.ring_data(),
        "partitions": table.partition_rows(ring),
    }
    if ring.up:
        return Answer(data, _views(ring))
    return Answer(data, _views(ring), [worst.nobody], Exit.UNREACHABLE)


def _node_data(ring: RingSurvey, place: int) -> StatusRow:
    """What is true of the node as a whole."""
    reports = [survey.reports[place] for survey in ring.partitions]
    process = reports[0].process
    offs = [report.clock_is_off_ms for report in reports if report.clock_off_ms is not None]
    refusals = {peer: why for report in reports for peer, why in report.refusals.items()}
    faults = {fault["id"]: fault for report in reports for fault in report.faults}
    return {
        "id": process.node.id,
        "pid": process.pid,
        "up": all(report.up for report in reports),
        "state": process.state,
        "why": "; ".join(f"{where}{why}" for where, why in _whys(reports)) or None,
        "role": None,
        "rejoining": any(report.rejoining for report in reports),
        "term": None,
        "last_index": None,
        "commit_index": None,
        "applied_index": None,
        "lag_entries": None,
        "lag_events": None,
        "first_offset": None,
        "next_offset": None,
        "rss_bytes": process.rss_bytes,
        "uptime_s": process.uptime_s,
        "address": process.node.client,
        "clock_off_ms": max(offs, key=abs) if offs else None,
        "refusals": [{"peer": peer, "code": code, "reason": why} for peer, (code, why) in refusals.items()],
        "faults": list(faults.values()),
    }


def _whys(reports: Sequence[Report]) -> list[tuple[str, str]]:
    return shared([[report.why] if report.why else [] for report in reports])


def _views(ring: RingSurvey) -> list[View]:
    cluster, worst = ring.cluster, ring.worst
    head = Fields(
        [
            ("cluster", Cell(cluster.name, Tone.STRONG)),
            ("ring", _ring_text(ring)),
            ("quorum", Cell(ring.quorum_text, table.quorum_tone(worst))),
            ("storage", cluster.storage),
        ]
    )
    wide = len(cluster.nodes) <= MOST_COLUMNS
    columns = [f"node {node.id}" for node in cluster.nodes] if wide else ["nodes"]
    shares = ring.shares
    rows: list[list[Value]] = []
    for number, survey in enumerate(ring.partitions):
        leader = survey.leader
        cells = [_health(survey, report) for report in survey.reports]
        rows.append(
            [
                str(number),
                Cell(f"node {leader.node.id}", Tone.GOOD) if leader else Cell("none", Tone.BAD),
                survey.term or None,
                f"{shares[number]:.1%}",
                _events(leader),
                *(cells if wide else [_ailing(survey, cells)]),
            ]
        )
    partitions = Table(["partition", "leader", "term", "share", "events", *columns], rows)
    nodes = [_node_row(ring, place) for place in range(len(cluster.nodes))]
    return [head, partitions, Table(["node", "process", "leads", "memory", "up for"], nodes)]


def _events(leader: Report | None) -> int | None:
    """How many its log has."""
    if leader is None:
        return None
    first, end = leader.number("first_offset"), leader.number("next_offset")
    return None if first is None or end is None else end - first


def _health(survey: Survey, report: Report) -> Cell:
    """Of a node in one partition: its role, and how far it is behind where that matters."""
    role, lag = table.role_of(survey, report), survey.behind(report, "next_offset")
    if report.status is None and report.process.state is RunState.RUNNING:
        return Cell("no answer", Tone.BAD)
    return Cell(f"{lag:,} behind", Tone.WARN) if lag else role


def _ailing(survey: Survey, cells: Sequence[Cell]) -> Cell:
    """Of many nodes, only those that neither lead nor follow closely."""
    by_word: dict[str, list[int]] = {}
    for report, cell in zip(survey.reports, cells, strict=True):
        if cell.value not in ("leader", "follower"):
            by_word.setdefault(str(cell.value), []).append(report.node.id)
    if not by_word:
        return Cell("all follow", Tone.GOOD)
    told = "; ".join(f"{nodes_named(numbers)} {word}" for word, numbers in by_word.items())
    return Cell(told, Tone.WARN)


def _node_row(ring: RingSurvey, place: int) -> list[Value]:
    reports = [survey.reports[place] for survey in ring.partitions]
    process = reports[0].process
    led = sum(survey.leader is report for survey, report in zip(ring.partitions, reports, strict=True))
    tones = {RunState.RUNNING: Tone.GOOD, RunState.PAUSED: Tone.WARN, RunState.DOWN: Tone.BAD}
    return [
        process.node.id,
        Cell(str(process.state), tones[process.state]),
        led,
        megabytes(process.rss_bytes),
        elapsed(process.uptime_s),
    ]


def _ring_text(ring: RingSurvey) -> str:
    said = ring.ring_data()
    moving = "; sources are moving" if said["moving"] else ""
    return f"version {said['version']}, {said['partitions']} partitions{moving}"
