"""Limits of the log and of deduplication: a log that was cut, the deduplication window, retention.

Pure rules. Called by `ranking.py`.
"""

from collections.abc import Iterator
from typing import Final

from esctl.observe.diagnosis.problem import Problem, ProblemKind, Severity
from esctl.observe.diagnosis.situation import Situation
from esctl.query.dedupstate import DedupState
from esctl.ui.formatting import duration
from esnode.limits import KEY_BYTES_ON_DISK

NEAR_RETENTION: Final = 0.9
"""The part of its bound at which a log is about to be cut."""


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


def window_shrunk(seen: Situation) -> Iterator[Problem]:
    """Keys were forgotten before their time: their events would be stored again."""
    states = {report.node.id: DedupState.of(report.status) for report in seen.survey.up}
    struck = {number: state for number, state in states.items() if state.forgotten_early}
    if not struck:
        return
    most = max(state.forgotten_early or 0 for state in struck.values())
    worst = next(state for state in struck.values() if state.forgotten_early == most)
    reach = "it is full now" if worst.full else "it is not full now"
    if worst.full and worst.window_ms:
        reach = f"it reaches back {duration(worst.window_ms / 1000)} now"
    yield Problem(
        ProblemKind.WINDOW_SHRUNK,
        Severity.WARNING,
        f"the deduplication window is shorter than its time: {most:,} keys were forgotten early",
        [
            f"at most {worst.max_keys or 0:,} keys are kept (dedup.max_bytes), and more events came than"
            f" that; {reach}",
            "one of those events, sent again, would be stored twice",
        ],
        seen.command("dedup"),
        first=f"raise dedup.max_bytes ({KEY_BYTES_ON_DISK} bytes of disk a key and node), {worst.remedy}",
        nodes=frozenset(struck),
    )


def window_full(seen: Situation) -> Iterator[Problem]:
    """New events are refused: their keys have no room."""
    states = {report.node.id: DedupState.of(report.status) for report in seen.survey.up}
    struck = {number: state for number, state in states.items() if state.refuses}
    if not struck:
        return
    state = max(struck.values(), key=lambda one: one.refused or 0)
    yield Problem(
        ProblemKind.WINDOW_FULL,
        Severity.DEGRADED,
        "the deduplication window is full: new events are refused",
        [
            f"{state.refused or 0:,} batches were refused (ES1104): {state.live_keys or 0:,} of at most"
            f" {state.max_keys or 0:,} keys are known (dedup.max_bytes), and dedup.when_full is refuse",
            f"a key makes room {duration((state.ttl_ms or 0) / 1000)} of log time after its event",
        ],
        seen.command("dedup"),
        first=f"send less, or raise dedup.max_bytes ({KEY_BYTES_ON_DISK} bytes of disk a key and node) on all"
        " nodes while all are stopped",
        also=[seen.command("logs --event window_full")],
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
