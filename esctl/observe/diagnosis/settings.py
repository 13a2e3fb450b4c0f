"""Nodes that refuse each other because settings differ that must be the same.

Pure rules. Which nodes are the odd ones is told by number: those that differ from most, or, where no value
has most, from the leader. A file that differs from the others' is told before its node is restarted.
Called by `ranking.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from esctl.observe.diagnosis.problem import Problem, ProblemKind, Severity
from esctl.observe.diagnosis.situation import Situation
from esctl.query.dedupstate import DedupState
from esctl.query.survey import Report
from esctl.ui.formatting import nodes_named
from esnode.config import Config, Dedup


@dataclass(frozen=True, slots=True)
class _Setting:
    name: str
    running: Callable[[Report], str]
    """As people read it; empty where the node does not say."""
    written: Callable[[Config], str]
    """The same of a file."""
    on_purpose: str
    """How it is changed, if that was the intention."""


def _listed(numbers: object) -> str:
    return ", ".join(map(str, sorted(numbers))) if isinstance(numbers, (list, set, frozenset)) else ""


def _running_window(report: Report) -> str:
    match DedupState.of(report.status):
        case DedupState(max_keys=int(max_keys), ttl_ms=int(ttl_ms), when_full=str(when_full)):
            return str(Dedup.of_keys(max_keys, ttl_ms, when_full))
    return ""


def _written_window(dedup: Dedup) -> str:
    """As a running node has it: nodes compare how many keys fit."""
    return str(Dedup.of_keys(dedup.max_keys, dedup.ttl_ms, dedup.when_full))


_SETTINGS: Final = (
    _Setting(
        "members",
        lambda report: _listed((report.status or {}).get("voters")),
        lambda config: _listed({member.id for member in config.members}),
        "the members of a cluster stay the same: a backup restored with --nodes makes another number",
    ),
    _Setting(
        "[dedup]",
        _running_window,
        lambda config: _written_window(config.dedup),
        "[dedup] is changed on all nodes while all are stopped: esctl docs operations",
    ),
)


def settings_differ(seen: Situation) -> Iterator[Problem]:
    """Nodes that refuse each other, and files that will make them do so."""
    for setting in _SETTINGS:
        running = {report.node.id: setting.running(report) for report in seen.survey.up}
        if (odd := _odd(seen, running)) is not None:
            yield _refused(seen, setting, running, odd)
            continue
        written = {number: setting.written(config) for number, config in seen.files.items()}
        if (odd := _odd(seen, written)) is not None:
            yield _will_be_refused(seen, setting, written, odd)


def _odd(seen: Situation, values: Mapping[int, str]) -> set[int] | None:
    """The nodes whose value is not the one that most have; None where all have the same."""
    said = {number: value for number, value in values.items() if value}
    counts = Counter(said.values()).most_common()
    if len(counts) < 2:
        return None
    usual, most = counts[0]
    leader = seen.survey.leader
    if most == counts[1][1] and leader is not None and leader.node.id in said:
        usual = said[leader.node.id]
    return {number for number, value in said.items() if value != usual}


def _refused(seen: Situation, setting: _Setting, values: Mapping[int, str], odd: set[int]) -> Problem:
    number = min(odd)
    reasons = [reason for _, reason in seen.survey.refusals.values()][:1]
    return Problem(
        ProblemKind.SETTINGS_DIFFER,
        Severity.DEGRADED,
        f"{_nodes(odd)} set to other {setting.name} than the others: they refuse each other",
        [*_values(values), *reasons, setting.on_purpose],
        seen.command(f"node restart {number}"),
        first=f"put {setting.name} in {seen.survey.cluster.node(number).config} back to what the others have",
        also=[seen.command(f"logs --node {number} --tail 20")],
        nodes=frozenset(odd),
    )


def _will_be_refused(seen: Situation, setting: _Setting, values: Mapping[int, str], odd: set[int]) -> Problem:
    number = min(odd)
    return Problem(
        ProblemKind.SETTINGS_DIFFER,
        Severity.WARNING,
        f"the file of node {number} has other {setting.name} than the others': it will be refused"
        " once it is started with it",
        [*_values(values), setting.on_purpose],
        seen.command("status health"),
        first=f"put {setting.name} in {seen.survey.cluster.node(number).config} back to what the others have",
        nodes=frozenset(odd),
    )


def _values(values: Mapping[int, str]) -> list[str]:
    """One line for each value, with the nodes that have it."""
    holders: dict[str, list[int]] = {}
    for number, value in sorted(values.items()):
        if value:
            holders.setdefault(value, []).append(number)
    return [f"{nodes_named(ids)}: {value}" for value, ids in holders.items()]


def _nodes(numbers: set[int]) -> str:
    return f"{nodes_named(numbers)} {'is' if len(numbers) == 1 else 'are'}"
