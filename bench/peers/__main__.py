"""`python -m bench.peers`: measure the systems in turn and print one table.

    python -m bench.peers [--system nats,etcd,redis,esnode] [--seconds 10] [--runs 3] [-o text|json]

Every run visits every system before the next begins, so that what else the machine does falls on all of
them. The table and the JSON document also go to `bench/results/peers.md` and `peers.json`.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from bench.peers import rounds, table
from bench.peers.peer import Habits, Peer
from bench.peers.systems import SYSTEMS, chosen
from bench.peers.table import Measured
from esctl.bench import machine
from esnode.errors import EventStreamError, first_of

RESULTS: Final = Path(__file__).resolve().parents[1] / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 when a round failed, 2 when nothing could begin, 130 after Ctrl-C."""
    options = _options(arguments)
    settings = rounds.Settings(
        directory=options.directory,
        seconds=options.seconds,
        warmup_s=min(2.0, options.seconds / 4),
        rates=tuple(options.rate),
        batch=options.batch,
        window=options.window,
        patience_s=options.patience,
    )
    try:
        peers = chosen(options.system)
        found = [Measured(name, peer.version, peer.facts) for name, peer in peers]
    except EventStreamError as error:
        _tell(f"{error.code}: {error}\nnext: {error.next_step}")
        return 2
    before = machine.load_average()
    bench = Bench([peer for _, peer in peers], found, settings)
    trio.run(bench.run, options.runs, options.failovers)
    if not bench.whole:
        _tell("interrupted: every process that was started has ended")
        return 130
    facts = {
        **machine.fingerprint(),
        "load_average": [before, machine.load_average()],
        "fsync_ms": list(rounds.fsync_ms(settings.directory, settings.size)),
    }
    said = {**asdict(settings), "runs": options.runs, "failovers": options.failovers}
    said["habits"] = str(Habits(settings.patience_s))
    del said["directory"]  # a place on this machine
    _publish(table.document(found, facts, said), table.markdown(found, facts, said), options.output)
    return 1 if any(one.failures for one in found) else 0


class Bench:
    """All rounds of all systems."""

    def __init__(self, peers: Sequence[Peer], found: Sequence[Measured], settings: rounds.Settings) -> None:
        self._systems = list(zip(peers, found, strict=True))
        self._settings = settings
        self.whole = False
        """Were all rounds made?"""

    async def run(self, runs: int, failovers: int) -> None:
        """Fill in what is found; a signal ends it."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_a_signal, signals, nursery.cancel_scope)
                await self._rounds(runs, failovers)
                self.whole = True
                nursery.cancel_scope.cancel()

    async def _rounds(self, runs: int, failovers: int) -> None:
        for number in range(runs):
            for peer, one in self._systems:
                step = f"run {number + 1} of {runs}: {one.name}"
                await self._round(one, step, partial(self._throughput, peer, one, step))
        for number in range(failovers):
            for peer, one in self._systems:
                step = f"kill {number + 1} of {failovers}: {one.name}"
                await self._round(one, step, partial(self._failover, peer, one))

    async def _round(self, one: Measured, step: str, work: Callable[[], Awaitable[None]]) -> None:
        """One round; what fails is noted, and the others go on."""
        _tell(step)
        try:
            await work()
        except EventStreamError as error:
            _note(one, step, error)
        except BaseExceptionGroup as group:
            declared, rest = group.split(EventStreamError)
            if declared is None or rest is not None:
                raise
            _note(one, step, first_of(declared))

    async def _throughput(self, peer: Peer, one: Measured, step: str) -> None:
        one.runs.append(await rounds.throughput(peer, self._settings, lambda what: _tell(f"{step}, {what}")))

    async def _failover(self, peer: Peer, one: Measured) -> None:
        one.failovers_ms.append(await rounds.failover(peer, self._settings))


async def _until_a_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


def _note(one: Measured, step: str, error: EventStreamError) -> None:
    one.failures.append(f"{step}: {error.code}: {error}")
    _tell(one.failures[-1])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers", description="Measure other systems beside esnode"
    )
    default = rounds.Settings(Path())
    every = ",".join(SYSTEMS)
    add = parser.add_argument
    add("--system", default=every, metavar="NAMES", help=f"which ones; by default all: {every}")
    add("--seconds", type=float, default=default.seconds, metavar="S", help="of each load")
    add("--runs", type=int, default=3, metavar="N", help="of the throughput; 0 leaves it out")
    add("--failovers", type=int, default=5, metavar="N", help="kills of a leader; 0 leaves them out")
    add("--rate", type=float, nargs="*", default=default.rates, metavar="N", help="open loops, events/s")
    add("--batch", type=int, default=default.batch, metavar="N", help="events a batch at most")
    add("--window", type=int, default=default.window, metavar="N", help="batches under way")
    waits = "so long the clients here wait for an ack before they try another node, in failovers"
    add("--patience", type=float, default=default.patience_s, metavar="S", help=waits)
    where = Path(tempfile.gettempdir())
    add("--directory", type=Path, default=where, metavar="DIR", help="its disk is the one that is measured")
    add("-o", "--output", choices=("text", "json"), default="text")
    return parser.parse_args(arguments)


def _publish(document: dict[str, Any], text: str, output: str) -> None:
    encoded = json.dumps(document, indent=1) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "peers.json").write_text(encoded, encoding="utf-8")
    (RESULTS / "peers.md").write_text(text, encoding="utf-8")
    sys.stdout.write(encoded if output == "json" else text)


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
