"""The figures of all systems side by side: a table in Markdown and a JSON document.

Decides how figures are summed up (medians; minimum and maximum beside the failovers) and how they read;
measures nothing and prints nothing. Called by `__main__.py`.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from bench.peers.peer import Facts
from bench.peers.rounds import Figures, prefix, reached

SCHEMA: Final = "bench-peers/1"
CLIENT_IS_FULL: Final = 0.9
"""With this share of a processor spent by the client it is the client that is measured."""
NOTHING: Final = "-"
FAILURE_CHARS: Final = 300
"""Of what is told below the table; the document has all of it."""


@dataclass(slots=True)
class Measured:
    """What was found out about one system."""

    name: str
    version: str
    facts: Facts
    runs: list[Figures] = field(default_factory=list)
    failovers_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """What went wrong in rounds that have no figures."""

    @property
    def figures(self) -> Figures:
        """The median of each figure, over the runs that have it."""
        names = dict.fromkeys(name for run in self.runs for name in run)
        return {name: _median([run.get(name) for run in self.runs]) for name in names}


def document(
    found: Sequence[Measured], machine: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything, for programs."""
    systems = [{**asdict(one), "figures": one.figures} for one in found]
    return {"schema": SCHEMA, "machine": dict(machine), "settings": dict(settings), "systems": systems}


def markdown(found: Sequence[Measured], machine: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Everything, for people."""
    rates = list(settings["rates"])
    columns = [
        "system", "durable before the ack?", "closed loop", "p50 / p99 / p99.9 there",
        "processor time an event: nodes + client", *(f"p50 / p99 / p99.9 at {rate:,.0f}/s" for rate in rates),
        "memory a node", "SIGKILL of the leader", "cold start to first ack",
    ]  # fmt: skip
    lines = [_line(columns), _line(["---"] * len(columns)), *(_line(_row(one, rates)) for one in found)]
    habits = f"While a leader is killed, the clients written here {settings['habits']}."
    lines += ["", _conditions(machine, settings), "", habits, ""]
    for one in found:
        facts = one.facts
        lines.append(
            f"- **{one.name}** ({one.version}): {facts.client}. Cluster's timers: {facts.timers}."
            f" Dials: {facts.dialling}."
        )
        lines += [f"  - failed: {' '.join(failure.split())[:FAILURE_CHARS]}" for failure in one.failures]
    return "\n".join(lines) + "\n"


def _row(one: Measured, rates: Sequence[float]) -> list[str]:
    figures = one.figures
    return [
        one.facts.system,
        one.facts.durable,
        _rate(figures.get("closed_per_s")),
        _latency(figures, "closed"),
        _processor(figures),
        *(_at_rate(figures, rate) for rate in rates),
        _memory(figures.get("memory_bytes")),
        _gap(one.failovers_ms),
        _time(figures.get("cold_start_ms")),
    ]


def _conditions(machine: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    before, after = machine["load_average"]
    median, p99 = machine["fsync_ms"]
    size, runs, kills = settings["size"], settings["runs"], settings["failovers"]
    return (
        f"Three nodes each on loopback, the client on the same {machine['cpus']} processors"
        f" ({machine['cpu']}), load average {before} before and {after} after; an fsync of {size} bytes takes"
        f" {median:.2f} ms (p99 {p99:.2f}). Events of {size} bytes, {settings['window']} batches of"
        f" {settings['batch']} under way, a batch acked when its last event is; at a rate, the events of 1 ms"
        f" a batch, latency from the intended send time. Medians of {runs} runs of {settings['seconds']:g} s;"
        f" the longest gap between two acks around {kills} kills at 1,000 events/s, median (min to max)."
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rate(per_s: float | None) -> str:
    return NOTHING if per_s is None else f"{per_s:,.0f}/s"


def _at_rate(figures: Figures, rate: float) -> str:
    per_s = figures.get(f"{prefix(rate)}_per_s")
    if per_s is None:
        return "not tried" if figures else NOTHING
    return _latency(figures, prefix(rate)) if reached(figures, rate) else f"not reached ({per_s:,.0f}/s)"


def _latency(figures: Figures, name: str) -> str:
    values = [figures.get(f"{name}_{part}_ms") for part in ("p50", "p99", "p999")]
    known = [_number(value) for value in values if value is not None]
    return f"{' / '.join(known)} ms" if len(known) == len(values) else NOTHING


def _processor(figures: Figures) -> str:
    nodes, client = figures.get("closed_nodes_us_per_event"), figures.get("closed_client_us_per_event")
    if nodes is None or client is None:
        return NOTHING
    full = (figures.get("closed_client_busy") or 0.0) >= CLIENT_IS_FULL
    return f"{_number(nodes)} + {_number(client)} µs{': the client is the bottleneck' if full else ''}"


def _memory(size: float | None) -> str:
    return NOTHING if size is None else f"{size / 1e6:,.0f} MB"


def _gap(gaps_ms: Sequence[float]) -> str:
    if not gaps_ms:
        return NOTHING
    spread = f" ({_time(min(gaps_ms))} to {_time(max(gaps_ms))})" if len(gaps_ms) > 1 else ""
    return _time(statistics.median(gaps_ms)) + spread


def _time(value_ms: float | None) -> str:
    if value_ms is None:
        return NOTHING
    return f"{value_ms:,.0f} ms" if value_ms < 1000 else f"{value_ms / 1000:,.1f} s"


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
