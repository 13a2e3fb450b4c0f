"""The catalogue of what expressions may read: each name, its type, and what it means.

The linter holds every playbook to it, `docs/playbooks.md` shows it, and whoever makes the values makes these.
`N` stands for the number of a node, `ID` for a step, `NAME` for an input, an item or a captured value; a name
that ends in `*` has more below it than is known before a command has answered. Pure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from esctl.playbook.types import Type
from esctl.playbookerrors import UnknownValue

_B, _N, _T, _L, _A = Type.BOOL, Type.NUMBER, Type.TEXT, Type.LIST, Type.ANY


@dataclass(frozen=True, slots=True)
class Name:
    """One name."""

    type: Type
    meaning: str
    nullable: bool = False


STATUS: Final[Mapping[str, Name]] = {
    "status.leader": Name(_N, "the node that leads", nullable=True),
    "status.term": Name(_N, "the highest term that a node knows of; 0 when none answers"),
    "status.voters": Name(_L, "the nodes that have a vote"),
    "status.voters_up": Name(_N, "how many of them answer, vote, are heard by the leader and near its end"),
    "status.up": Name(_L, "the nodes that answer"),
    "status.down": Name(_L, "the configured nodes that do not"),
    "status.followers": Name(_L, "the nodes that answer, without the leader"),
    "status.leader_last": Name(_L, "the nodes that answer, the leader at the end"),
    "status.rejoining": Name(_L, "the nodes that fetch their log again and do not vote"),
    "status.events": Name(_N, "the offset after the last event of the leader; without one, the most known"),
    "status.lag_events": Name(_N, "how far the node that is furthest behind is behind the leader"),
    "status.versions": Name(_L, "the versions that the nodes that answer run, each once"),
    "status.quorum.held": Name(_B, "a majority answers"),
    "status.quorum.needed": Name(_N, "how many make a majority"),
    "status.quorum.may_fail": Name(_N, "how many more may fail; negative when too many have"),
    "status.nodes.N.up": Name(_B, "it answers"),
    "status.nodes.N.state": Name(_T, "its process: `running`, `paused` or `down`"),
    "status.nodes.N.role": Name(_T, "`leader`, `follower`, `candidate`, ...", nullable=True),
    "status.nodes.N.rejoining": Name(_B, "it fetches its log again"),
    "status.nodes.N.term": Name(_N, "its term", nullable=True),
    "status.nodes.N.lag_events": Name(_N, "how far it is behind the leader", nullable=True),
    "status.nodes.N.faults": Name(_N, "how many faults are active on it"),
    "status.nodes.N.version": Name(_T, "the version of the code that it runs", nullable=True),
}
OTHERS: Final[Mapping[str, Name]] = {
    "cluster.name": Name(_T, "its name"),
    "cluster.backend": Name(_T, "what runs its nodes"),
    "cluster.nodes": Name(_L, "the configured nodes"),
    "cluster.quorum": Name(_N, "how many make a majority"),
    "health.ok": Name(_B, "every stage of `esctl status health` passes"),
    "health.serving": Name(_B, "events are accepted and read, even if a node is missing"),
    "health.alive": Name(_B, "the first stage: every process runs"),
    "health.ready": Name(_B, "the second: every running node answers and keeps up"),
    "health.quorum": Name(_B, "the third: a majority follows one leader"),
    "health.deep": Name(_B, "the fourth: a majority answers for a read"),
    "health.reasons": Name(_L, "what is wrong, as texts"),
    "faults.active": Name(_N, "how many faults are active, kills and pauses included"),
    "faults.allowed": Name(_B, "the nodes may be broken on purpose"),
    "fault.effect": Name(_T, "of the step's own fault: `applied`, `no effect` or `unknown`"),
    "fault.id": Name(_T, "its id, as `esctl fault ls` shows it"),
    "fault.*": Name(_A, "everything else that its command answers under `-o json`"),
    "load.running": Name(_B, "the background load of the run is sending"),
    "load.sent": Name(_N, "events sent"),
    "load.acked": Name(_N, "events acked"),
    "load.unknown": Name(_N, "events that may or may not be in the log"),
    "load.failed": Name(_N, "events that were certainly not stored"),
    "load.acked_lost": Name(_N, "events that were acked and that the log does not have"),
    "load.rate_per_s": Name(_N, "events acked in the last second"),
    "load.p50_ms": Name(_N, "the median time to an ack, of the last second", nullable=True),
    "load.p99_ms": Name(_N, "its 99th percentile", nullable=True),
    "load.max_ms": Name(_N, "the longest of the last second", nullable=True),
    "load.longest_gap_ms": Name(_N, "the longest time between two acks so far"),
    "load.silence_ms": Name(_N, "the time since the last ack"),
    "bench.*": Name(_A, "the figures of the step's own measurement, as in `-o json`"),
    "verify.passed": Name(_B, "the exactly-once check found nothing wrong and could read everything"),
    "verify.conclusive": Name(_B, "the exactly-once check could read everything"),
    "verify.events": Name(_N, "events in the log"),
    "verify.nodes_read": Name(_N, "nodes whose log was read"),
    "verify.acked": Name(_N, "events that the load of this run knows to be acked"),
    "verify.acked_lost": Name(_N, "events that were acked and are in no log"),
    "verify.duplicates": Name(_N, "events that are in the log twice, within the deduplication window"),
    "verify.stored_again": Name(_N, "events that were sent again after the window: they are no duplicates"),
    "verify.reordered": Name(_N, "events that are not in the same order everywhere"),
    "verify.changed": Name(_N, "events that are not what was sent"),
    "verify.hashes_equal": Name(_B, "all nodes have the same log, up to where all are"),
    "answer.exit": Name(_N, "the exit code of the step's own command"),
    "answer.*": Name(_A, "the data that it answers under `-o json`"),
    "step.ID.ok": Name(_B, "an earlier step passed"),
    "step.ID.data.*": Name(_A, "what an earlier step's command answered"),
    "inputs.NAME": Name(_A, "an input of the playbook; a duration is in milliseconds, a node is its number"),
    "captured.NAME": Name(_A, "what an earlier step, or this one, has captured"),
    "item.NAME": Name(_A, "within a `foreach`: the item of the round"),
    "run.left_ms": Name(_N, "the rest of `max_duration`"),
}
CATALOGUE: Final[Mapping[str, Name]] = {**STATUS, **OTHERS}

OWN: Final = frozenset({"fault", "bench", "answer"})
"""What a step's own command gives: there once it has answered, so captured after the step has acted."""
EXPENSIVE: Final = frozenset({"verify"})
"""Reads every node's log: for `assert`, not for what is watched all along."""


def entry_of(name: str) -> Name:
    """The catalogue's entry for a dotted name of an expression; raises `UnknownValue`.

    `status.nodes.2.up`, and `status.nodes.*.up` where the node is itself read, are `status.nodes.N.up`.
    """
    parts = name.split(".")
    for pattern, entry in CATALOGUE.items():
        if _matches(pattern.split("."), parts):
            return entry
    whole = [pattern for pattern in CATALOGUE if _begins(pattern.split("."), parts)]
    if whole:
        return Name(Type.TABLE, f"holds {', '.join(whole)}")
    if len(parts) > 1 and parts[-1].isdigit():
        try:
            if entry_of(".".join(parts[:-1])).type is Type.LIST:
                return Name(Type.ANY, "one of a list")
        except UnknownValue:
            pass
    raise UnknownValue(f"there is no {name}; {_instead(parts)}")


def _matches(pattern: list[str], parts: list[str]) -> bool:
    if pattern[-1] == "*":
        return len(parts) >= len(pattern) and _matches(pattern[:-1], parts[: len(pattern) - 1])
    return len(pattern) == len(parts) and all(map(_fits, pattern, parts))


def _begins(pattern: list[str], parts: list[str]) -> bool:
    return len(pattern) > len(parts) and all(map(_fits, pattern, parts))


def _fits(pattern: str, part: str) -> bool:
    if pattern == "N":
        return part == "*" or part.isdigit()
    return pattern in ("ID", "NAME") or pattern == part


def _instead(parts: list[str]) -> str:
    name = ".".join("N" if part.isdigit() else part for part in parts)
    near = get_close_matches(name, CATALOGUE, 1, 0.75)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are: {', '.join(_below(parts))}"


def _below(parts: list[str]) -> Iterator[str]:
    """The names under as many of the parts as make sense."""
    for length in range(len(parts) - 1, 0, -1):
        found = [name for name in CATALOGUE if _begins(name.split("."), parts[:length])]
        if found:
            yield from found
            return
    yield from dict.fromkeys(f"{name.partition('.')[0]}.*" for name in CATALOGUE)
