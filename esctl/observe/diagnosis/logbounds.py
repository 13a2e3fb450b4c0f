"""Limits of the log and of deduplication: a log that was cut, the deduplication window, retention.

Pure rules. Called by `ranking.py`.
"""

from collections.abc import Iterator
from typing import Final

from esctl.observe.diagnosis.problem import Problem, ProblemKind, Severity
from esctl.observe.diagnosis.situation import Situation

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
