"""What is around the nodes: faults on purpose, disks, clocks, the deduplication window, retention.

Pure rules. None of these stops events by itself; each explains something, or will become a problem.
Called by `ranking.py`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from esctl.observe.diagnosis.problem import Problem, ProblemKind, Severity
from esctl.observe.diagnosis.situation import VERY_LOW_PERCENT, Situation

CLOCK_OFF_MS: Final = 500
NEAR_RETENTION: Final = 0.9
"""The part of its bound at which a log is about to be cut."""


def faults(seen: Situation) -> Iterator[Problem]:
    """Faults that are active, one finding for what one command has set."""
    active: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for report in seen.survey.up:
        for fault in report.faults:
            active.setdefault(str(fault["id"]).partition(".")[0], []).append((report.node.id, fault))
    for one in seen.struck:
        picture = {"kind": one.kind, "peers": [], "left_ms": one.left_ms, "hits": 1}
        active.setdefault(one.fault, []).append((one.node, picture))
    for name, parts in sorted(active.items()):
        struck = sorted({number for number, _ in parts})
        touched = {number for number, _ in parts} | {int(p) for _, fault in parts for p in fault["peers"]}
        kinds = sorted({str(fault["kind"]) for _, fault in parts})
        left_s = max(int(fault["left_ms"]) for _, fault in parts) / 1000
        hits = sum(int(fault["hits"]) for _, fault in parts)
        yield Problem(
            ProblemKind.FAULT,
            Severity.WARNING,
            f"a fault on purpose is active: {name} ({', '.join(kinds)})"
            f" on node{'s' if len(struck) > 1 else ''} {_listed(struck)}",
            [
                f"it has struck {'once' if hits == 1 else f'{hits:,} times'}; its lease ends it in"
                f" {left_s:,.0f} s",
                "the nodes do not know who has set it",
            ],
            seen.command(f"fault heal {name}"),
            also=[seen.command("fault ls")],
            nodes=frozenset(touched),
        )


def shortened(seen: Situation) -> Iterator[Problem]:
    """A log that ends before what its nodes have applied."""
    if seen.shortened is not None:
        cluster = seen.survey.cluster
        yield Problem(
            ProblemKind.LOG_SHORTENED,
            Severity.CRITICAL,
            "the log is shorter than it was: acked events are gone",
            [seen.shortened.text, "the nodes cannot know: what they had is not in their directories"],
            seen.command("status"),
            first=f"look for the directories as they were (moved away, a backup) before more is stored:"
            f" {cluster.data_dir}",
            also=[seen.command("backup ls"), seen.command("logs --level warning")],
        )


def disks_low(seen: Situation) -> Iterator[Problem]:
    """Data directories whose file system is nearly full."""
    for number, disk in sorted(seen.disks.items()):
        if disk.free_percent >= seen.least_free_percent:
            continue
        cluster = seen.survey.cluster
        bound = seen.retention_bytes.get(number)
        kept = f"its log is bounded to {bound / 1e9:,.1f} GB" if bound else "nothing bounds its log"
        yield Problem(
            ProblemKind.DISK_LOW,
            Severity.DEGRADED if disk.free_percent < VERY_LOW_PERCENT else Severity.WARNING,
            f"the disk of node {number} is nearly full: {disk.free_percent:.1f} % free",
            [
                f"{disk.free_bytes / 1e9:,.2f} of {disk.total_bytes / 1e9:,.1f} GB free for"
                f" {cluster.node(number).data_dir}",
                f"{kept}; a node whose disk is full ends (ES3103) and acks nothing more",
            ],
            seen.elsewhere(number) or seen.command("doctor"),
            first="make room, or bound the log ([retention] in the node's file, then a restart, one by one);"
            " or give it an empty directory on another disk",
            also=[seen.command("doctor"), seen.command("status")],
            nodes=frozenset({number}),
        )


def clocks_off(seen: Situation) -> Iterator[Problem]:
    """Nodes whose wall clock is not that of this machine; unknown where a node does not tell it."""
    for report in seen.survey.up:
        wall_ms = (report.status or {}).get("wall_time_ms")
        if not isinstance(wall_ms, int) or not report.heard_ms:
            continue
        off_ms = wall_ms - report.heard_ms
        if abs(off_ms) <= CLOCK_OFF_MS:
            continue
        way = "ahead of" if off_ms > 0 else "behind"
        yield Problem(
            ProblemKind.CLOCK_OFF,
            Severity.WARNING,
            f"the clock of node {report.node.id} is {abs(off_ms) / 1000:,.1f} s {way} this machine's",
            [
                "nothing is lost by it: order and expiry go by the log's own time, which no wall clock moves",
                "only the times in that node's log lines, and `time` of events made there, are off",
            ],
            seen.command("doctor"),
            first="set the clock of that machine (chrony, timedatectl)",
            nodes=frozenset({report.node.id}),
        )


def window_shrunk(seen: Situation) -> Iterator[Problem]:
    """Keys were forgotten before their time: their events would be stored again."""
    forgotten = {
        report.node.id: int((report.status or {}).get("dedup", {}).get("forgotten_early", 0) or 0)
        for report in seen.survey.up
    }
    struck = sorted(number for number, count in forgotten.items() if count)
    if not struck:
        return
    most = max(forgotten.values())
    limit = max(int((r.status or {}).get("dedup", {}).get("max_keys", 0) or 0) for r in seen.survey.up)
    yield Problem(
        ProblemKind.WINDOW_SHRUNK,
        Severity.WARNING,
        f"the deduplication window is shorter than its time: {most:,} keys were forgotten early",
        [
            f"at most {limit:,} keys are kept (dedup.max_keys), and more events came than that",
            "one of those events, sent again, would be stored twice",
        ],
        seen.command("dedup"),
        first="raise dedup.max_keys (16 bytes of memory a key and node), or set when_full to refuse",
        nodes=frozenset(struck),
    )


def retention(seen: Situation) -> Iterator[Problem]:
    """Logs that have reached their bound: the oldest events go. As asked, so only a note."""
    near = {
        report.node.id: (int((report.status or {}).get("storage_bytes", 0)), bound)
        for report in seen.survey.up
        if (bound := seen.retention_bytes.get(report.node.id))
    }
    full = {number: pair for number, pair in near.items() if pair[0] >= NEAR_RETENTION * pair[1]}
    if not full:
        return
    number, (size, bound) = max(full.items(), key=lambda item: item[1][0] / item[1][1])
    first = seen.survey.report(number).number("first_offset") or 0
    yield Problem(
        ProblemKind.RETENTION,
        Severity.NOTE,
        f"the log is at {100 * size / bound:.0f} % of its bound: the oldest events are cut away",
        [
            f"node {number}: {size / 1e6:,.0f} of {bound / 1e6:,.0f} MB (retention.bytes); the first"
            f" event kept is {first:,}"
        ],
        seen.command("status"),
        nodes=frozenset(full),
    )


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
