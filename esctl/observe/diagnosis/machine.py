"""Problems of the nodes' machines: disks that are nearly full, clocks that differ.

Pure rules. Called by `ranking.py`.
"""

from collections.abc import Iterator
from typing import Final

from esctl.observe.diagnosis.problem import Problem, ProblemKind, Severity
from esctl.observe.diagnosis.situation import VERY_LOW_PERCENT, Situation
from esctl.ui.formatting import duration

CLOCK_OFF_MS: Final = 500


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
            f"the clock of node {report.node.id} is {duration(abs(off_ms) / 1000)} {way} this machine's",
            [
                "nothing is lost by it: order and expiry go by the log's own time, which no wall clock moves",
                "only the times in that node's log lines, and `time` of events made there, are off",
            ],
            seen.command("doctor"),
            first="set the clock of that machine (chrony, timedatectl)",
            nodes=frozenset({report.node.id}),
        )
