"""All nodes killed at once, under load, again and again; then nothing may be missing.

python -m tests.torture.kill_all --times 10 --rate 10000 [--seed N] [--storage sqlite|rocksdb]
"""

import argparse
import random
import sys
from pathlib import Path

import trio

from esctl.exits import Exit
from tests.torture.arena import Arena, Judgement, Load, arena, judge, report, say

ACKED_BETWEEN = 5_000
"""Acks that must come between two kills."""
MAX_PAUSE_S = 0.5


async def torture(
    ring: Arena, times: int, load: Load, source: random.Random, recoveries_s: list[float]
) -> Judgement:
    """Kill all, start all, until it was done `times` times; then judge."""
    await ring.start(ring.numbers)
    await ring.leader()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run, ring)
        for turn in range(times):
            await load.wait_acked(ACKED_BETWEEN)
            await trio.sleep(source.uniform(0, MAX_PAUSE_S))
            await ring.kill(ring.numbers)
            begun = trio.current_time()
            say(f"kill {turn + 1} of all; {load.ledger.acked:,} acked")
            await ring.start(ring.numbers)
            await load.wait_acked(1)
            recoveries_s.append(trio.current_time() - begun)
        await load.wait_acked(ACKED_BETWEEN)
        load.end()
    return await judge(ring, load.ledger)


def run(times: int, rate: float, seed: int, storage: str = "sqlite", home: Path | None = None) -> Exit:
    """The whole run; prints its one line."""
    source = random.Random(seed)
    load = Load(rate, source)
    recoveries_s: list[float] = []
    with arena(storage, home) as ring:
        judgement = trio.run(torture, ring, times, load, source, recoveries_s)
    figures = {
        "storage": storage,
        "seed": seed,
        "times": len(recoveries_s),
        "start_to_ack_s": [round(seconds, 2) for seconds in recoveries_s],
        "acked": load.ledger.acked,
        "acked_again": load.ledger.acked_again,
        "batches_without_ack": load.errors,
        **judgement.as_data(),
    }
    conclusive = len(recoveries_s) == times and load.ledger.acked >= times * ACKED_BETWEEN
    return report("kill_all", figures, clean=judgement.clean, conclusive=conclusive and judgement.complete)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--storage", default="sqlite")
    parser.add_argument("--home", type=Path)
    chosen = parser.parse_args()
    return run(chosen.times, chosen.rate, chosen.seed, chosen.storage, chosen.home)


if __name__ == "__main__":
    sys.exit(main())
