"""`esctl produce`: the events of a file, a pipe or standard input into the log, each once.

A bad line is named and the rest goes in; sending the same input again is safe, since what is in the log
is recognised. The counting is in `esctl/events/producer.py`, the reading in `ndjson.py` and `inputs.py`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from esctl.cli.durationoption import duration_option
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.exits import Exit, exit_of
from esctl.ui.answer import Answer, Cell, Fields, Line, Tone, Trouble, Value
from esctl.ui.formatting import duration, quantity
from esnode.errors import (
    EventStreamError,
    InvalidEvent,
    NoQuorum,
    OperationTimeout,
    Unreachable,
    declared,
)

if TYPE_CHECKING:
    from esctl.clusters.state import Cluster
    from esctl.events.inputs import EventInput
    from esctl.events.producer import ProduceAnswer, ProduceTally, Taken, Watch
    from esctl.ui.progress import Progress
    from esctl.ui.terminal import Terminal
    from esnode.dedup.batch import Batch

app = new_typer()
MAX_WINDOW: Final = 512
SHOW_EVERY_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class ProduceSettings:
    """What the options say."""

    rate: float
    batch: int
    window: int
    timeout_s: float


@command(app, "produce", impact="rw", partitions=True)
def produce(
    run: Invocation,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="File with one JSON object per line; - is standard input")
    ],
    rate: Annotated[
        float,
        typer.Option("--rate", metavar="N", min=0, help="Highest rate, in events per second; 0 is no limit"),
    ] = 0.0,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, max=1024, help="Events per batch")
    ] = 64,
    window: Annotated[
        int,
        typer.Option("--window", metavar="N", min=1, max=MAX_WINDOW, help="Batches in flight at a time"),
    ] = 64,
    timeout: Annotated[
        float, duration_option("--timeout", "Give up when an ack takes longer", low_s=0.1)
    ] = 30.0,
    strict: Annotated[
        bool, typer.Option("--strict", help="Check every line before the first event is sent")
    ] = False,
) -> "Answer[ProduceAnswer]":
    """Append the events of a file to the log (NDJSON, plain or gzipped)"""
    from esctl.events.inputs import open_input  # loaded late, like all that brings trio
    from esctl.events.producer import ProduceTally
    from esctl.query.processes import refuse_if_stopped

    tally = ProduceTally()
    run.on_interrupt(lambda: summary(tally), "run it again; sending the same events again is safe")
    cluster = run.cluster()
    with open_input(file) as source:
        try:
            run.trio(lambda: refuse_if_stopped(cluster))
            if strict:
                source = run.trio(source.again)
                run.trio(lambda: _check(run, source, tally))
                if tally.malformed:
                    return summary(tally, strict=True)
                source.rewind()
            run.trio(
                lambda: _send(run, cluster, source, tally, ProduceSettings(rate, batch, window, timeout))
            )
        except EventStreamError as error:
            return gave_up(tally, error)
    return summary(tally)


async def _check(run: Invocation, source: "EventInput", tally: "ProduceTally") -> None:
    """Look at every line and send nothing."""
    from esctl.events.producer import Watch, check

    with run.terminal.progress(f"checking {source.name}"):
        watch = Watch(bad_line=lambda line: run.terminal.warn(str(line)))
        await check(source, tally, watch)


async def _send(
    run: Invocation,
    cluster: "Cluster",
    source: "EventInput",
    tally: "ProduceTally",
    settings: ProduceSettings,
) -> None:
    from esctl.events.producer import Producer, produce
    from esctl.query.ringsurvey import ring_of
    from esnode.client import connect

    opened = connect(
        cluster.addresses,
        cluster=cluster.identity,
        window=settings.window,
        timeout_s=settings.timeout_s,
    )
    total = source.estimated_lines()

    def describe(acked: int, rate: float) -> str:
        """A bar says the rest itself; without an end to reach there is no bar."""
        return "sending" if total else f"sending: {acked:,} acked, {rate:,.0f} events/s,"

    with run.terminal.progress("sending", total, "events") as bar:
        async with opened as log:
            watch = watch_for(run.terminal, bar, cluster, tally, settings.timeout_s, describe)
            producer = Producer(log, window=settings.window, rate=settings.rate, tally=tally, watch=watch)
            ring = await ring_of(cluster) if cluster.partitions > 1 else None
            await produce(producer, source, settings.batch, ring)


def watch_for(
    terminal: "Terminal",
    bar: "Progress",
    cluster: "Cluster",
    tally: "ProduceTally",
    timeout_s: float,
    describe: Callable[[int, float], str],
) -> "Watch":
    """Shows acks on `bar`; says on standard error what goes wrong, and when it goes on.

    `describe` is told how many events are acked, and how many a second.
    """
    from esctl.events.producer import Watch
    from esctl.query import ringsurvey

    told: list[float] = []
    begun = time.monotonic()
    shown = begun

    def acked(batch: "Batch", _taken: "Taken") -> None:
        nonlocal shown
        bar.advance(batch.count)
        now = time.monotonic()
        if now - shown >= SHOW_EVERY_S:
            shown = now
            bar.describe(describe(tally.acked, tally.acked / (now - begun)))

    async def silence(seconds: float) -> None:
        if told and seconds < 2 * told[-1]:
            return  # told again after 2, 4, 8 ... seconds
        told.append(seconds)
        state = (await ringsurvey.ask(cluster)).leader_text
        terminal.warn(f"no ack for {duration(seconds)}: {state}; giving up after {duration(timeout_s)}")

    def recovered(seconds: float) -> None:
        told.clear()
        terminal.note(f"acks come again, after {duration(seconds)}; {tally.acked:,} acked")

    return Watch(
        acked=acked,
        silence=silence,
        recovered=recovered,
        bad_line=lambda line: terminal.warn(str(line)),
        refused=lambda batch, error: terminal.warn(f"{batch.count} events refused: {error.code} {error}"),
    )


def summary(tally: "ProduceTally", *, strict: bool = False) -> "Answer[ProduceAnswer]":
    """What has become of the events: after the last one, after Ctrl-C, or before the first one."""
    errors = []
    if tally.malformed:
        first = tally.bad_lines[0]
        what = "lines are not events" if tally.malformed > 1 else "line is not an event"
        went_in = f"{quantity(tally.acked, 'event')} went in"
        rest = went_in if tally.acked else "no event went in"
        rest = "nothing was sent (--strict)" if strict else rest
        errors.append(
            Trouble(
                first.code,
                f"{tally.malformed:,} {what}; {rest}",
                str(first),
                "fix what is named above and send the input again: what is in the log stays there once",
            )
        )
    if tally.refused:
        code = tally.refusals[0] if tally.refusals else InvalidEvent.code
        errors.append(
            Trouble(code, f"{tally.refused:,} events were refused", declared()[code].title,
                    declared()[code].next_step)
        )  # fmt: skip
    return Answer(data_of(tally), views(tally), errors, Exit.ERROR if errors else Exit.OK)


def gave_up(tally: "ProduceTally", error: EventStreamError) -> "Answer[ProduceAnswer]":
    """The timeout came before the last ack, or nothing could be read or sent."""
    trouble = Trouble.of(error)
    late = isinstance(error, NoQuorum | OperationTimeout | Unreachable)
    if late or tally.unknown:
        unknown = f"{tally.unknown:,} are unknown" + (": they may be in the log" if tally.unknown else "")
        trouble = Trouble(
            trouble.code,
            f"{trouble.message}; {tally.acked:,} events are acked, {unknown}; the rest was not sent",
            trouble.cause,
            f"{trouble.next}; then send the same input again: nothing goes in twice",
        )
    code = Exit.TIMEOUT if late else exit_of(error)
    bad = [one for one in summary(tally).errors if tally.failed]
    # An input that cannot be read is no result: a table of zeros would hide the reason.
    shown = views(tally) if late or tally.sent or tally.malformed else []
    return Answer(data_of(tally), shown, [*bad, trouble], code)


def data_of(tally: "ProduceTally") -> "ProduceAnswer":
    """For the JSON answer."""
    return {
        **tally.as_data(),
        "bad_lines": [
            {"line": line.number, "code": line.code, "reason": line.reason} for line in tally.bad_lines
        ],
    }


def views(tally: "ProduceTally") -> list[Fields | Line]:
    """For people."""
    duplicates = f"{tally.duplicates:,} were in the log before" if tally.duplicates else ""
    if tally.resent_duplicates:
        duplicates += f" ({tally.resent_duplicates:,} of them sent again by this run after a failover)"
    pairs: list[tuple[str, Value]] = [
        ("sent", tally.sent),
        ("acked", Cell(tally.acked, Tone.GOOD if tally.acked else Tone.NORMAL)),
        ("duplicates", tally.duplicates),
        ("failed", Cell(tally.failed, Tone.BAD if tally.failed else Tone.NORMAL)),
        ("unknown", Cell(tally.unknown, Tone.WARN if tally.unknown else Tone.NORMAL)),
        ("seconds", round(tally.seconds, 3)),
        ("events/s", round(tally.events_per_s)),
    ]
    return [Fields(pairs), *([Line(duplicates, Tone.DIM)] if duplicates else [])]
