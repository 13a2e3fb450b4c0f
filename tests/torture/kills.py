"""SIGKILLs of random nodes under load, each node started again after a second; then nothing may be missing.

python -m tests.torture.kills --kills 50 --rate 10000 [--seed N] [--storage sqlite|rocksdb]
"""

import argparse
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from esctl.exits import Exit
from tests.torture.arena import Arena, Judgement, Load, arena, judge, report, say

DOWN_S = 1.0
"""How long a killed node is down."""
MAX_PAUSE_S = 1.0
"""The longest time between a node's return and the next kill."""
ACKED_BETWEEN = 64
"""Acks that must come between two kills: a cluster that stands still is not being tortured."""


@dataclass
class Kills:
    """How it went."""

    asked: int
    killed: list[int] = field(default_factory=list)
    leaders: int = 0

    def figures(self, load: Load, judgement: Judgement, seed: int) -> dict[str, Any]:
        return {
            "seed": seed,
            "kills": len(self.killed),
            "leaders_killed": self.leaders,
            "seconds": round(load.seconds, 1),
            "rate": load.rate,
            "acked": load.ledger.acked,
            "acked_per_s": round(load.ledger.acked / load.seconds),
            "acked_again": load.ledger.acked_again,
            "batches_sent_again": load.sent_again,
            "batches_without_ack": load.errors,
            **judgement.as_data(),
        }


async def torture(ring: Arena, kills: Kills, load: Load, source: random.Random) -> Judgement:
    """Kill, wait, start again, and so on; then judge."""
    await ring.start(ring.numbers)
    await ring.leader()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run, ring)
        for turn in range(kills.asked):
            await load.wait_acked(ACKED_BETWEEN)
            await trio.sleep(source.uniform(0, MAX_PAUSE_S))
            leader = await ring.leader()
            victim = source.choice(ring.numbers)
            await ring.kill([victim])
            kills.killed.append(victim)
            kills.leaders += victim == leader
            what = "the leader" if victim == leader else "a follower"
            say(f"kill {turn + 1}: node {victim}, {what}; {load.ledger.acked:,} acked")
            await trio.sleep(DOWN_S)
            await ring.start([victim])
        await load.wait_acked(ACKED_BETWEEN)
        load.end()
    return await judge(ring, load.ledger)


def run(asked: int, rate: float, seed: int, storage: str = "sqlite", home: Path | None = None) -> Exit:
    """The whole run; prints its one line."""
    source = random.Random(seed)
    kills, load = Kills(asked), Load(rate, source)
    with arena(storage, home) as ring:
        judgement = trio.run(torture, ring, kills, load, source)
    happened = len(kills.killed) == asked and kills.leaders > 0 and load.happened
    return report(
        "kills",
        {"storage": storage, **kills.figures(load, judgement, seed)},
        clean=judgement.clean,
        conclusive=happened and judgement.complete,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--storage", default="sqlite")
    parser.add_argument("--home", type=Path)
    chosen = parser.parse_args()
    return run(chosen.kills, chosen.rate, chosen.seed, chosen.storage, chosen.home)


if __name__ == "__main__":
    sys.exit(main())
