"""Which faults a cluster has met in its life, how often each has hit, and which it never met.

Pure. What each fault struck is in the nodes' logs (`fault_set`, `fault_healed`, `fault_expired`, and the end
of a node whose disk refused a write); the shapes of partitions, and what was done to processes and files, are
in the ledger. A node that was killed has told nobody how often its active faults had hit. Called by `esctl
fault coverage`.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict

from esctl.chaos.ledger import LedgerEntry
from esctl.faults.partitionshapes import Shape
from esctl.ui.values import Count, NodeId

NET: Final = ("delay", "drop", "duplicate", "reorder", "rate", "reset", "stall")
WAYS: Final = (
    *(f"partition {shape}" for shape in Shape),
    *(f"net {kind}" for kind in NET),
    "disk slow", "disk fail", "disk full", "disk flip", "disk torn", "clock jump", "clock drift",
    "kill", "pause", "freeze",
)  # fmt: skip
OTHER_CUTS: Final = "partition, not by shape"
"""Cuts that other commands have made, such as `bench failover`."""
_MARKS: Final = ('"event": "fault_', "(the fault ")
_FATAL: Final = re.compile(r"\(the fault ([^)]+)\)")


class CoverageData(TypedDict):
    """One way to break a cluster, and how often that was done."""

    way: str
    times: Count
    hits: Count
    nodes: list[NodeId]
    last: str | None


@dataclass(slots=True)
class CoverageRow:
    """One way to break a cluster. `hits` are messages, commits, looks at a clock, or nodes."""

    way: str
    times: int = 0
    hits: int = 0
    nodes: set[int] = field(default_factory=set)
    last: str = ""
    """When it was set last, as the node's log says; empty when never."""

    def as_data(self) -> CoverageData:
        """For the JSON answer."""
        return {
            "way": self.way,
            "times": self.times,
            "hits": self.hits,
            "nodes": sorted(self.nodes),
            "last": self.last or None,
        }


@dataclass(slots=True)
class _Known:
    """One fault as the nodes' logs tell it, on all of them."""

    kind: str
    nodes: set[int] = field(default_factory=set)
    hits: int = 0
    last: str = ""


def lines_about(lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """The lines of a node's log that tell of faults; the others are not even parsed."""
    for line in lines:
        if any(mark in line for mark in _MARKS):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found


def tally(
    ledger: Iterable[LedgerEntry],
    told: Iterable[Mapping[str, Any]],
    live: Iterable[tuple[int, Mapping[str, Any]]],
) -> list[CoverageRow]:
    """A row for each way there is. `told`: lines of the nodes' logs; `live`: what is active, by node."""
    rows = {way: CoverageRow(way) for way in WAYS}
    shapes: dict[str, str] = {}
    noted = list(ledger)
    for struck in noted:
        for way in struck.ways:
            if way.startswith("partition"):
                shapes[struck.id] = way
            elif way in ("disk flip", "disk torn", "kill", "pause", "freeze"):
                row = rows[way]
                row.times += 1
                row.hits += len(struck.nodes)
                row.nodes |= set(struck.nodes)
                row.last = max(row.last, struck.text)
    counted = set[tuple[str, str]]()
    active = list(live)
    for (fault, _), known in _told(told, active).items():
        base = fault.partition(".")[0]
        way = _way(known.kind, shapes.get(base))
        row = rows.setdefault(way, CoverageRow(way))
        row.times += (base, way) not in counted
        counted.add((base, way))
        row.hits += known.hits
        row.nodes |= known.nodes
        row.last = max(row.last, known.last)
    _count_real_cuts(rows, noted, {base for base, _ in counted}, active)
    return list(rows.values())


def _count_real_cuts(
    rows: Mapping[str, CoverageRow],
    noted: Iterable[LedgerEntry],
    told: Collection[str],
    live: Iterable[tuple[int, Mapping[str, Any]]],
) -> None:
    """Links that were cut for real: no node has a word of them in its log."""
    hits: dict[str, int] = {}
    for _node, picture in live:
        if picture["kind"] == "cut":
            base = str(picture["id"]).partition(".")[0]
            hits[base] = hits.get(base, 0) + int(picture["hits"])
    for struck in noted:
        for way in struck.ways:
            if way.startswith("partition") and struck.id not in told:
                row = rows[way]
                row.times += 1
                row.hits += hits.get(struck.id, 0)
                row.nodes |= set(struck.nodes)
                row.last = max(row.last, struck.text)


def _told(
    told: Iterable[Mapping[str, Any]], live: Iterable[tuple[int, Mapping[str, Any]]]
) -> dict[tuple[str, str], _Known]:
    """By id and kind."""
    found: dict[tuple[str, str], _Known] = {}
    kinds: dict[str, str] = {}
    for line in told:
        node = int(line.get("node", 0))
        if fatal := _FATAL.search(str(line.get("reason", ""))):
            if fatal[1] in kinds and line.get("event") == "node_failed":
                found[fatal[1], kinds[fatal[1]]].hits += 1
        elif "fault" in line and "kind" in line:
            fault, kind = str(line["fault"]), str(line["kind"])
            kinds[fault] = kind
            known = found.setdefault((fault, kind), _Known(kind))
            known.nodes.add(node)
            known.hits += int(line.get("hits", 0))
            if line.get("event") == "fault_set":
                known.last = max(known.last, str(line.get("time", "")))
    for _node, picture in live:
        key = (str(picture["id"]), str(picture["kind"]))
        if key in found:
            found[key].hits += int(picture["hits"])
    return found


def _way(kind: str, shape: str | None) -> str:
    if kind == "block":
        return shape or OTHER_CUTS
    return kind.replace("-", " ", 1) if kind.startswith(("disk-", "clock-")) else f"net {kind}"
