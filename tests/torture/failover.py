"""From the strike of the leader to the next ack, through the client, on a cluster of its own.

python -m tests.torture.failover --times 20 [--kind kill|pause|transfer] [--rate 1000] [--aim-ms 150]
                                 [--storage sqlite|rocksdb]

The same strikes as those of `esctl bench failover`, with a bound that the slowest must keep. Fails too when
anything is lost or doubled.
"""

import argparse
import sys
from dataclasses import asdict

import trio

from esctl.chaos.failover.drill import Drill, Strike
from esctl.chaos.failover.kinds import StrikeKind
from esctl.chaos.failover.outcome import DrillOutcome, LogsReading
from esctl.chaos.failover.spread import spread_of
from esctl.chaos.failover.subject import LiveCluster
from esctl.chaos.steadyload import under_load
from esctl.exits import Exit
from esctl.ui.terminal import Output, Terminal
from esnode.errors import EventStreamError
from tests.torture.arena import Arena, arena
from tests.torture.campaign import Settings, leaves, options, report, say, settings_of
from tests.torture.load import APPEND_TIMEOUT_S


def tell(strike: Strike) -> None:
    """What is going on, for those who watch."""
    missed = f": NOT CONFIRMED: {strike.missed}" if strike.missed else ""
    say(f"node {strike.node}: {strike.next_ack_ms} ms to the next ack{missed}")


async def measure(ring: Arena, kind: StrikeKind, settings: Settings) -> tuple[Drill, DrillOutcome | None]:
    """Strike, then read every node; no outcome when it ended before its time."""
    await ring.start(ring.numbers)
    cluster = ring.cluster
    over = False
    async with under_load(cluster, settings.rate, APPEND_TIMEOUT_S) as (load, log):
        subject = LiveCluster(cluster, ring.backend)
        drill = Drill(subject, load, kind, settings.times, lambda: log.connections, tell)
        try:
            await drill.run()
            over = True
        except* EventStreamError as group:
            say("; ".join(f"{type(error).__name__}: {error}" for error in leaves(group)))
    if not over:
        return drill, None
    reading = LogsReading(cluster)
    with Terminal(Output.JSON).progress("") as nobody:
        await reading.read(lambda _total: nobody)
    return drill, reading.judge(load.operations)


def run(kind: StrikeKind, settings: Settings, aim_ms: float) -> Exit:
    """The whole run; prints its one line."""
    with arena(settings.storage, settings.home) as ring:
        drill, outcome = trio.run(measure, ring, kind, settings)
        ring.keep = outcome is not None and not outcome.clean
    spread = spread_of(strike.next_ack_ms for strike in drill.strikes)
    figures = {
        "storage": settings.storage,
        "kind": str(kind),
        "times": len(drill.strikes),
        "rate": settings.rate,
        "next_ack_ms": asdict(spread) if spread is not None else None,
        "aim_ms": aim_ms,
        "all_ms": [strike.next_ack_ms for strike in drill.strikes],
        "not_confirmed": [strike.missed for strike in drill.strikes if strike.missed],
        "acked": drill.load.acked,
        "without_ack": drill.load.errors,
        "lost": outcome.lost if outcome is not None else None,
        "twice": outcome.duplicates if outcome is not None else None,
        "flaws": list(outcome.flaws) if outcome is not None else [],
    }
    never = [strike.node for strike in drill.strikes if strike.never_s is not None]
    hit = len(drill.strikes) == settings.times and not figures["not_confirmed"] and drill.load.enough
    slow = spread is not None and spread.max > aim_ms
    clean = outcome is None or outcome.clean
    conclusive = hit and outcome is not None and not outcome.doubts and spread is not None
    figures["never_recovered_from"] = never
    return report("failover", figures, clean=clean and not slow and not never, conclusive=conclusive)


def parser() -> argparse.ArgumentParser:
    parser = options(__doc__, times=20, rate=1_000)
    parser.add_argument("--kind", type=StrikeKind, choices=list(StrikeKind), default=StrikeKind.KILL)
    parser.add_argument("--aim-ms", type=float, default=150, help="what the slowest may take")
    return parser


if __name__ == "__main__":
    chosen = parser().parse_args()
    sys.exit(run(chosen.kind, settings_of(chosen), chosen.aim_ms))
