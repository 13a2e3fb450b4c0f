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
    "status.leader": Name(_N, "the number of the leader", nullable=True),
    "status.term": Name(_N, "the highest term that any node knows; 0 if no node answers"),
    "status.voters": Name(_L, "the nodes that have a vote"),
    "status.voters_up": Name(
        _N, "the number of voters that answer, vote, are heard by the leader and have almost its whole log"
    ),
    "status.up": Name(_L, "the nodes that answer"),
    "status.down": Name(_L, "the configured nodes that do not answer"),
    "status.followers": Name(_L, "the nodes that answer, except the leader"),
    "status.leader_last": Name(_L, "the nodes that answer, with the leader last"),
    "status.rejoining": Name(_L, "the nodes that fetch their log from the others, and do not vote yet"),
    "status.events": Name(
        _N, "the offset after the leader's last event; without a leader, the highest such offset of any node"
    ),
    "status.lag_events": Name(_N, "the number of events by which the slowest node is behind the leader"),
    "status.versions": Name(_L, "the different versions that the answering nodes run"),
    "status.quorum.held": Name(_B, "a majority answers"),
    "status.quorum.needed": Name(_N, "the number of nodes in a majority"),
    "status.quorum.may_fail": Name(_N, "how many more nodes may fail; negative if too many have failed"),
    "status.nodes.N.up": Name(_B, "the node answers"),
    "status.nodes.N.state": Name(_T, "the state of the node's process: `running`, `paused` or `down`"),
    "status.nodes.N.role": Name(_T, "the node's role: `leader`, `follower`, `candidate`, ...", nullable=True),
    "status.nodes.N.rejoining": Name(_B, "the node fetches its log from the others, and does not vote yet"),
    "status.nodes.N.term": Name(_N, "the node's term", nullable=True),
    "status.nodes.N.lag_events": Name(
        _N, "the number of events by which the node is behind the leader", nullable=True
    ),
    "status.nodes.N.faults": Name(_N, "the number of faults that are active on the node"),
    "status.nodes.N.version": Name(_T, "the version of the code that the node runs", nullable=True),
}
OTHERS: Final[Mapping[str, Name]] = {
    "cluster.name": Name(_T, "the cluster's name"),
    "cluster.backend": Name(_T, "the cluster's backend: `process` or `netns`"),
    "cluster.nodes": Name(_L, "the configured nodes"),
    "cluster.quorum": Name(_N, "the number of nodes in a majority"),
    "health.ok": Name(_B, "every stage of `esctl status health` passes"),
    "health.serving": Name(_B, "the cluster accepts and delivers events, even if a node is down"),
    "health.alive": Name(_B, "stage 1 passes: every process runs"),
    "health.ready": Name(_B, "stage 2 passes: every running node answers and keeps up"),
    "health.quorum": Name(_B, "stage 3 passes: a majority follows one leader"),
    "health.deep": Name(_B, "stage 4 passes: a majority confirms a read"),
    "health.reasons": Name(_L, "the reasons why a stage fails, as texts"),
    "faults.active": Name(_N, "the number of active faults, including kills and pauses"),
    "faults.allowed": Name(_B, "the nodes accept injected faults"),
    "fault.effect": Name(_T, "the effect of this step's fault: `applied`, `no effect` or `unknown`"),
    "fault.id": Name(_T, "the id of this step's fault, as in `esctl fault ls`"),
    "fault.*": Name(_A, "every other value in the `data` of the fault command's `-o json` output"),
    "load.running": Name(_B, "the background load of the run is sending events"),
    "load.sent": Name(_N, "the number of events sent"),
    "load.acked": Name(_N, "the number of events acked"),
    "load.unknown": Name(_N, "the number of events that may or may not be in the log"),
    "load.failed": Name(_N, "the number of events that were certainly not stored"),
    "load.acked_lost": Name(_N, "the number of events that were acked but are not in the log"),
    "load.rate_per_s": Name(_N, "the number of events acked in the last second"),
    "load.p50_ms": Name(_N, "the median time to an ack in the last second", nullable=True),
    "load.p99_ms": Name(_N, "the 99th percentile of the time to an ack in the last second", nullable=True),
    "load.max_ms": Name(_N, "the longest time to an ack in the last second", nullable=True),
    "load.longest_gap_ms": Name(_N, "the longest time between two acks so far"),
    "load.silence_ms": Name(_N, "the time since the last ack"),
    "bench.*": Name(_A, "the figures of this step's measurement, as in the `-o json` output"),
    "verify.passed": Name(_B, "the exactly-once check found nothing wrong, and could read everything"),
    "verify.conclusive": Name(_B, "the exactly-once check could read everything"),
    "verify.events": Name(_N, "the number of events in the log"),
    "verify.nodes_read": Name(_N, "the number of nodes whose log was read"),
    "verify.acked": Name(_N, "the number of events of this run's loads that were acked"),
    "verify.acked_lost": Name(_N, "the number of events that were acked but are in no log"),
    "verify.duplicates": Name(
        _N, "the number of events that are in the log twice within the deduplication window"
    ),
    "verify.stored_again": Name(
        _N, "the number of events that were stored again after the deduplication window (not duplicates)"
    ),
    "verify.reordered": Name(_N, "the number of events that are not in the same order on all nodes"),
    "verify.changed": Name(_N, "the number of events that differ from the event that was sent"),
    "verify.hashes_equal": Name(_B, "all nodes have the same log, up to the end of the shortest one"),
    "answer.exit": Name(_N, "the exit code of this step's command"),
    "answer.*": Name(_A, "the `data` of the `-o json` output of this step's command"),
    "step.ID.ok": Name(_B, "the earlier step passed"),
    "step.ID.data.*": Name(_A, "the `data` of the `-o json` output of an earlier step's command"),
    "inputs.NAME": Name(_A, "an input of the playbook; a duration is in milliseconds, a node is a number"),
    "captured.NAME": Name(_A, "a value that an earlier step or this one has captured"),
    "item.NAME": Name(_A, "the current item, within a `foreach`"),
    "run.left_ms": Name(_N, "the time left of `max_duration`, in milliseconds"),
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
