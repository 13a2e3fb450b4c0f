"""The strikes of `esctl bench failover` as a result, and as the table that people read.

Each strike is one run of the result, so that two results are compared by how their strikes differ among
themselves. Measures nothing. Called by `failover.py`.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, cast

from esctl.commands.bench import screens
from esctl.ui.answer import Cell, Fields, Line, Table, Tone, Value, View
from esctl.ui.formatting import duration

if TYPE_CHECKING:
    from esctl.bench.machine import ClusterData, MachineData
    from esctl.chaos.failover.drill import Drill, Strike
    from esctl.chaos.failover.outcome import DrillOutcome
    from esctl.chaos.failover.spread import Spread
    from esctl.commands.bench.answers import (
        ClientTimers,
        FailoverClient,
        FailoverDetail,
        FailoverResult,
        FailoverSettings,
        FailoverStrike,
        SpreadData,
    )

ROWS: Final = {
    "unavailable_ms": "longest gap between two acks",
    "next_ack_ms": "strike to the new leader's ack",
    "detect_ms": "  detect: first candidate",
    "elect_ms": "  elect: new leader",
    "first_commit_ms": "  first commit",
    "client_ms": "  first ack at the client",
    "leaderless_ms": "without a leader",
    "return_ms": "longest gap while catching up",
    "calm_ms": "longest gap before the strike",
}
"""The figures of a strike, as people read them."""
BOUNDED: Final = ("unavailable_ms", "next_ack_ms")
"""Those that a strike from which nobody recovered has a lower bound for."""
PHASES: Final = ("detect_ms", "elect_ms", "first_commit_ms", "client_ms")


@dataclass(frozen=True, slots=True)
class Given:
    """What one must know to compare the figures with others."""

    machine: "MachineData"
    cluster: "ClusterData"
    settings: "FailoverSettings"
    client: "FailoverClient"
    """Its timers in seconds, and whom it dials in which order."""


def figures_of(strike: "Strike") -> dict[str, float | None]:
    """What is compared."""
    phases = asdict(strike.phases) if strike.phases is not None else dict.fromkeys(PHASES)
    return {name: phases[name] if name in phases else getattr(strike, name) for name in ROWS}


def as_data(strike: "Strike") -> "FailoverStrike":
    """One strike for the JSON answer; times of the election in ms from the strike."""
    election = strike.election
    found = {
        "node": strike.node,
        "term": strike.term,
        "at": strike.epoch_s,
        "missed": strike.missed or None,
        "never_over_s": strike.never_s,
        "new_leader": election.leader if election is not None else None,
        "new_term": election.term if election is not None else None,
        "elections": election.term - strike.term if election is not None else None,
        "noticed_ms": _after(strike, election.noticed_s) if election is not None else None,
        **figures_of(strike),
    }
    return cast("FailoverStrike", found)  # the names of figures are looked up, and no type can hold them


def _after(strike: "Strike", epoch_s: float) -> float:
    return round((epoch_s - strike.epoch_s) * 1000, 3)


def doubts(drill: "Drill", outcome: "DrillOutcome | None", times: int) -> list[str]:
    """Why it proves nothing; empty when it does."""
    found = [f"strike {n}: {one.missed}" for n, one in enumerate(drill.strikes, 1) if one.missed]
    if len(drill.strikes) < times:
        found.append(f"only {len(drill.strikes)} of {times} strikes were made")
    if not drill.load.enough:
        found.append(f"too little load: only {drill.load.acked:,} events were acked")
    return [*found, *(outcome.doubts if outcome is not None else ["nothing was judged"])]


def result_of(given: Given, drill: "Drill", outcome: "DrillOutcome | None") -> "FailoverResult":
    """The document of the strikes that are over, one at least."""
    from esctl.bench.result import Result
    from esctl.chaos.failover.spread import spread_of

    lost = outcome.lost if outcome is not None else None
    duplicates = outcome.duplicates if outcome is not None else None
    runs = [
        {
            **figures_of(strike),
            "never": float(strike.never_s is not None),
            "lost": lost,
            "duplicates": duplicates,
        }
        for strike in drill.strikes
    ]
    spreads = {name: spread_of(run[name] for run in runs) for name in ROWS}
    return Result(
        kind="failover",
        settings=given.settings,
        machine=given.machine,
        cluster=given.cluster,
        runs=runs,
        series={
            name: [(float(n), value) for n, run in enumerate(runs, 1) if (value := run[name]) is not None]
            for name in ROWS
        },
        detail={
            "spreads": {name: _spread(one) if one is not None else None for name, one in spreads.items()},
            "strikes": [as_data(strike) for strike in drill.strikes],
            "acked": drill.load.acked,
            "never_acked": drill.load.never_acked,
            "errors_by_code": drill.load.errors,
            "client": given.client,
            "judged": outcome is not None,
            "equal_hashes": outcome.verdict.hashes_equal if outcome is not None else None,
            "flaws": list(outcome.flaws) if outcome is not None else [],
            "doubts": list(outcome.doubts) if outcome is not None else [],
        },
    )


def _spread(spread: "Spread") -> "SpreadData":
    return {
        "count": spread.count,
        "min": spread.min,
        "median": spread.median,
        "p99": spread.p99,
        "max": spread.max,
    }


# --- for people --------------------------------------------------------------------------------------


def views(result: "FailoverResult") -> list[View]:
    """The figures, then what decides them, then whether anything was lost."""
    settings, detail, spreads = result.settings, result.detail, result.detail["spreads"]
    known, missed = detail["strikes"], [one for one in detail["strikes"] if one["missed"]]
    nevers = [one["never_over_s"] for one in known if one["never_over_s"]]
    never_over_s = min(nevers, default=None)
    rows: list[list[Value]] = []
    for name, label in ROWS.items():
        spread = spreads[name]
        if spread is not None:
            over_ms = never_over_s * 1000 if never_over_s and name in BOUNDED else math.inf
            numbers = [
                "never" if spread[column] >= over_ms else f"{spread[column]:,.1f}"
                for column in ("min", "median", "p99", "max")
            ]
            tone = Tone.NORMAL if rows else Tone.STRONG
            rows.append([Cell(label, tone), *(Cell(number, tone) for number in numbers)])
    nodes = Counter(one["node"] for one in known)
    times = "once" if len(known) == 1 else f"{len(known)} times"
    led = f" of partition {settings['partition']}" if "partition" in settings else ""
    title = (
        f"{settings['strike']} of the leader{led}, {times}, at {settings['rate_per_s']:,.0f} events/s"
        f" of {settings['size_bytes']} bytes, {settings['events_a_batch']} a batch"
    )
    hit = ", ".join(f"node {node} ×{count}" for node, count in sorted(nodes.items()))
    pairs: list[tuple[str, Value]] = [
        ("strikes", f"{len(known) - len(missed)} of {len(known)} hit: {hit}"),
        ("recovered", _recovered(len(known), nevers)),
        ("without an ack", _never_acked(detail)),
        ("proof", _proof(result)),
        ("nodes", _nodes(result.cluster)),
        ("client dials", f"all at once: {', '.join(detail['client']['dials_at_once'])}"),
        ("client's timers", _client(detail["client"]["timers"])),
        *screens.where(result),
    ]
    head: list[View] = [Line(title, Tone.STRONG), Table(["in ms", "min", "median", "p99", "max"], rows)]
    if spreads["next_ack_ms"] is None:
        head.append(Line("the nodes' logs do not tell the phases: is their log_level info?", Tone.WARN))
    return [*head, Fields(pairs)]


def _recovered(strikes: int, nevers: Sequence[float]) -> Cell:
    text = f"{strikes - len(nevers)} of {strikes}"
    if not nevers:
        return Cell(text)
    return Cell(f"{text}; never (over {min(nevers):g} s): {len(nevers)}", Tone.BAD)


def _never_acked(detail: "FailoverDetail") -> Cell:
    """What is in none of the times above it."""
    never, codes = detail["never_acked"], detail["errors_by_code"]
    why = f" ({', '.join(f'{code} {count:,}' for code, count in sorted(codes.items()))})" if codes else ""
    return Cell(f"{never:,} of {never + detail['acked']:,} events{why}", Tone.WARN if never else Tone.NORMAL)


def _proof(result: "FailoverResult") -> Cell:
    detail, figures = result.detail, result.figures
    acked = f"{detail['acked']:,} acked"
    if not detail["judged"]:
        return Cell(f"{acked}, not judged", Tone.WARN)
    lost, duplicates = figures["lost"] or 0, figures["duplicates"] or 0
    hashes = "equal hashes" if detail["equal_hashes"] else "hashes differ"
    clean = not detail["flaws"] and detail["equal_hashes"]
    text = f"{acked}, {lost:,.0f} lost, {duplicates:,.0f} duplicates, {hashes}"
    return Cell(text, Tone.BAD if not clean else Tone.WARN if detail["doubts"] else Tone.GOOD)


def _nodes(cluster: "ClusterData") -> str:
    return (
        f"heartbeat {cluster['heartbeat_ms']} ms, replace a silent leader after"
        f" {cluster['election_ms']} + 0-{cluster['election_jitter_ms']} ms"
    )


def _client(timers: "ClientTimers") -> str:
    return (
        f"dial again {duration(timers['dial_again_s'])} to {duration(timers['dial_again_at_most_s'])}; "
        f"resend {duration(timers['send_again_s'])}; "
        f"hang up {duration(timers['ask_when_due_s'])} + {duration(timers['hang_up_s'])}"
    )
