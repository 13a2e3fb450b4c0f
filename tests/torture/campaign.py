"""One run of torture: load, faults one after the other, the judgement, and one line of JSON.

A fault is an object with a name and a `strike`. Each strike must be confirmed by something other than the
word of the node that was hit; where one was not, or where there was not load enough, the run proves
nothing and is inconclusive. Called by each fault's own module, and by `mix`.
"""

import argparse
import json
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import trio

from esctl.exits import Exit
from esnode.errors import EventStreamError
from tests.torture.arena import Arena, Place, Role, Target, Trouble, arena
from tests.torture.judgement import Judgement, judge
from tests.torture.load import Load
from tests.torture.witness import Witness

ACKED_BETWEEN: Final = 64
"""Acks that must come between two faults: a cluster that stands still is not being tortured."""
MAX_PAUSE_S: Final = 1.0
"""The longest time between a node's return and the next fault."""
HAND: Final = (Role.LEADER, Role.FOLLOWER, Role.FOLLOWER)
"""Of three faults in a row one is for the leader, in random order."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault as it was tried. `missed` says why it is not confirmed; empty when it is."""

    what: str
    missed: str = ""


@dataclass(frozen=True, slots=True)
class Needs:
    """Where the nodes must live so that a fault can hit them."""

    small_disks: bool = False
    """On small file systems in memory, which can be filled."""
    plugs: bool = False
    """On file systems of their own whose power can be cut."""
    apart: bool = False
    """In network namespaces of their own."""


class Fault(Protocol):
    """One kind of fault."""

    name: str
    needs: Needs

    def missing(self) -> str:
        """What this machine lacks for it; empty when nothing."""

    async def strike(self, ring: Arena, load: Load, target: Target, source: random.Random) -> Strike:
        """Hit `target`, see that it was hit, and bring it back; raises `Trouble`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is chosen on the command line."""

    times: int
    rate: float = 3_000
    seed: int = 1
    storage: str = "sqlite"
    home: Path | None = None
    retention_bytes: int = 0
    """0: nothing is cut, and there are no snapshots."""


@dataclass
class Tally:
    """What was tried, and what was confirmed, by the fault's name."""

    tried: Counter[str] = field(default_factory=Counter)
    confirmed: Counter[str] = field(default_factory=Counter)
    on_leaders: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    trouble: str = ""
    """What ended the run before its time."""

    def add(self, name: str, target: Target, strike: Strike) -> None:
        self.tried[name] += 1
        self.on_leaders[name] += target.leads
        if strike.missed:
            self.missed.append(f"{name}: {target}: {strike.what}: {strike.missed}")
        else:
            self.confirmed[name] += 1


def run(
    name: str,
    faults: Sequence[Fault],
    settings: Settings,
    more: Callable[[], dict[str, Any]] = dict,
) -> Exit:
    """Strike `settings.times` times, the faults in turn as the seed says; prints the one line.

    `more` gives the fault's own figures at the end.
    """
    for fault in faults:
        if lack := fault.missing():
            say(f"{fault.name}: {lack}")
            return report(name, {"missing": f"{fault.name}: {lack}"}, clean=True, conclusive=False)
    load, tally = Load(settings.rate, random.Random(f"{settings.seed}:load")), Tally()
    witness = Witness(load)
    place = Place(
        small_disks=any(fault.needs.small_disks for fault in faults),
        plugs=any(fault.needs.plugs for fault in faults),
        apart=any(fault.needs.apart for fault in faults),
        retention_bytes=settings.retention_bytes,
    )
    with arena(settings.storage, settings.home, place) as ring:
        judgement = trio.run(_torture, ring, plan(faults, settings), load, witness, tally, settings.seed)
        clean = judgement is not None and judgement.clean and not tally.trouble
        ring.keep = not clean
    figures = {
        "storage": settings.storage,
        "seed": settings.seed,
        "rate": settings.rate,
        "retention_bytes": settings.retention_bytes,
        "tried": dict(tally.tried),
        "confirmed": dict(tally.confirmed),
        "on_leaders": dict(tally.on_leaders),
        "not_confirmed": tally.missed,
        "seconds": round(load.seconds, 1),
        "acked": load.ledger.acked,
        "acked_per_s": round(load.ledger.acked / load.seconds) if load.seconds else 0,
        "acked_again": load.ledger.acked_again,
        "batches_sent_again": load.sent_again,
        "batches_without_ack": load.errors,
        "linearizable_reads": witness.reads,
        **more(),
        **(judgement.as_data() if judgement is not None else {}),
        **({"trouble": tally.trouble} if tally.trouble else {}),
    }
    hit = tally.tried.total() == settings.times and not tally.missed
    conclusive = hit and load.happened and judgement is not None and judgement.complete
    return report(name, figures, clean=clean, conclusive=conclusive)


def plan(faults: Sequence[Fault], settings: Settings) -> list[tuple[Fault, Role]]:
    """Which fault for whom, in which order: the same for the same seed."""
    source = random.Random(f"{settings.seed}:plan")
    order: list[Fault] = []
    while len(order) < settings.times:
        order += source.sample(faults, len(faults))
    hands: dict[str, list[Role]] = {fault.name: [] for fault in faults}
    planned: list[tuple[Fault, Role]] = []
    for fault in order[: settings.times]:
        hand = hands[fault.name]
        if not hand:
            hand += source.sample(HAND, len(HAND))
        planned.append((fault, hand.pop()))
    return planned


async def _torture(
    ring: Arena,
    planned: list[tuple[Fault, Role]],
    load: Load,
    witness: Witness,
    tally: Tally,
    seed: int,
) -> Judgement | None:
    try:
        await ring.start(ring.numbers)
        await ring.leader()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run, ring)
            nursery.start_soon(witness.run, ring)
            for turn, (fault, role) in enumerate(planned):
                # One stream of random numbers a strike: what one of them draws does not move the next.
                source = random.Random(f"{seed}:{fault.name}:{turn}")
                await load.wait_acked(ACKED_BETWEEN)
                await trio.sleep(source.uniform(0, MAX_PAUSE_S))
                ring.check_all_run()
                target = await ring.aim(role, source)
                strike = await fault.strike(ring, load, target, source)
                tally.add(fault.name, target, strike)
                missed = f": NOT CONFIRMED: {strike.missed}" if strike.missed else ""
                count = f"{fault.name} {turn + 1}/{len(planned)}"
                say(f"{count}: {target}: {strike.what}{missed}; {load.ledger.acked:,} acked")
            await load.wait_acked(ACKED_BETWEEN)
            load.end()
            await load.over.wait()
            ring.check_all_run()
            return await judge(ring, load, witness)
    except* (Trouble, EventStreamError) as group:
        load.ended_s = trio.current_time()
        tally.trouble = "; ".join(f"{type(error).__name__}: {error}" for error in leaves(group))
        say(tally.trouble)
    return None


def leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    """The errors in a group of groups."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def report(name: str, figures: dict[str, Any], *, clean: bool, conclusive: bool) -> Exit:
    """Print the one line of a run, and give its exit code."""
    code = Exit.VERDICT_FAILED if not clean else Exit.OK if conclusive else Exit.INCONCLUSIVE
    outcome = {Exit.OK: "passed", Exit.VERDICT_FAILED: "failed", Exit.INCONCLUSIVE: "inconclusive"}[code]
    print(json.dumps({"torture": name, "outcome": outcome, **figures}), flush=True)
    return code


def say(text: str) -> None:
    """What is going on, for those who watch."""
    print(text, file=sys.stderr, flush=True)


# --- the command line ---------------------------------------------------------------------------------


def options(text: str | None, times: int, rate: float = 3_000) -> argparse.ArgumentParser:
    """The options that every run has."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=times, help="how many faults")
    parser.add_argument("--rate", type=float, default=rate, help="events a second")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--storage", default="sqlite", choices=("sqlite", "segments", "rocksdb"))
    parser.add_argument(
        "--retention-bytes", type=int, default=0, help="cut the log, so that there are snapshots"
    )
    parser.add_argument("--home", type=Path, help="an existing directory for the cluster")
    return parser


def settings_of(chosen: argparse.Namespace) -> Settings:
    """What was chosen. From here on SIGTERM ends the run as Ctrl-C does: with everything taken away."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins without it
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    return Settings(
        chosen.times, chosen.rate, chosen.seed, chosen.storage, chosen.home, chosen.retention_bytes
    )
