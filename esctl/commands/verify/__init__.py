"""`esctl verify`: the proof that nothing was lost, doubled, changed or reordered.

Reads every node's log itself and, with --input, every event of the files that were sent. Three ends: it
passed, it failed (exit 11), or there was not enough to judge by (exit 12). Needs about 50 bytes of memory
for each event of the log, and 50 for each of the input; three times the first when the nodes disagree. What
was stored again after the deduplication window is no duplicate: it is counted, and listed with --strict.
"""

import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from esctl.cli.durationoption import duration_option
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters.backends import backend_named, datadir
from esctl.commands.verify.proof import Expected, PartitionProof, Proof, VerifyAnswer, answer_of
from esctl.errors import InvalidArgument
from esctl.ui.answer import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from esctl.clusters.state import Cluster
    from esctl.verify.reading import ReadOutcome
    from esctl.verify.ringhistory import RingHistory

app = new_typer()
DEFAULT_WAIT_S: Final = 5.0


@command(app, "verify", partitions=True)
def verify(
    run: Invocation,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="File whose events must all be in the log (NDJSON, plain or gzipped); repeatable",
        ),
    ] = None,
    wait: Annotated[
        float, duration_option("--wait", "Time to wait for nodes that are behind")
    ] = DEFAULT_WAIT_S,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Also fail if the log has events that are in none of the --input files"),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="List each event that was stored again after its key had expired")
    ] = False,
) -> Answer[VerifyAnswer]:
    """Prove that every node has each event once, unchanged and in the same order"""
    from esctl.query import ringsurvey  # loaded late: it brings trio and the client
    from esctl.verify.ringhistory import RingHistory

    if exact and not inputs:
        raise InvalidArgument("--exact says that the inputs are all there is, and there is none",
                              next_step="esctl verify --exact --input FILE")  # fmt: skip
    cluster = run.cluster()
    begun = time.monotonic()
    expected = Expected(list(inputs or ()))
    ring = run.trio(lambda: ringsurvey.ask(cluster))
    since = ring.since if cluster.partitions > 1 else {}
    history = RingHistory(ring.ring, [node.id for node in cluster.nodes], since)
    readings = run.trio(lambda: _examine(run, cluster, history, expected, wait))
    with run.terminal.progress("comparing"):
        verdicts = history.verdicts(exact=exact, strict=strict)
    seconds = time.monotonic() - begun
    parts = [PartitionProof(reading, verdict) for reading, verdict in zip(readings, verdicts, strict=True)]
    up = set[int].intersection(*(reading.up for reading in readings))
    gone = datadir.too_few_logs(cluster, up)
    return answer_of(Proof(cluster, expected, parts, seconds, mending_of(cluster, readings), gone))


def mending_of(cluster: "Cluster", readings: "Sequence[ReadOutcome]") -> list[str]:
    """A command for each node that did not answer, as far as its process tells what helps."""
    from esctl.query.survey import step_for  # loaded late: it brings trio and the client

    silent = {number for reading in readings for number in reading.troubles if number not in reading.up}
    processes = backend_named(cluster.backend).nodes(cluster) if silent else []
    return [step_for(process) for process in processes if process.node.id in silent]


async def _examine(
    run: Invocation, cluster: "Cluster", history: "RingHistory", expected: Expected, wait_s: float
) -> "list[ReadOutcome]":
    from contextlib import ExitStack

    from esctl.verify import reading  # loaded late: it brings trio and the client

    for number, path in enumerate(expected.files):
        await _expect(run, history, expected, number, path)
    with ExitStack() as stack:
        waiting = ExitStack()
        waiting.enter_context(run.terminal.progress("waiting for every node to have the same events"))
        stack.push(waiting)

        def begin(events: int) -> reading.ReadProgress:
            waiting.close()
            return stack.enter_context(run.terminal.progress("reading every node", events, "events"))

        return await reading.read_ring(cluster, history, wait_s, begin)


async def _expect(
    run: Invocation, history: "RingHistory", expected: Expected, number: int, path: str
) -> None:
    """Tell the history what should be there."""
    from esctl.events import inputs  # loaded late: it brings trio
    from esctl.events.ndjson import BadLine, EventReader, Line

    events = 0

    def take(line: Line) -> None:
        nonlocal events
        expected.lines += 1
        if isinstance(line, BadLine):
            expected.malformed += 1
            if line.of_the_end:
                expected.flaws.append(f"{path} is not all there: {line.reason}")
            if not line.again:
                run.terminal.warn(f"{path}: {line}; it is not looked for")
        else:
            events += 1
            history.expect(line.key, line.encoded, number, line.number)
            bar.advance()

    with inputs.open_input(path) as source:
        reader, total = EventReader(), source.estimated_lines()
        with run.terminal.progress(f"reading {source.name}", total, "events") as bar:
            while data := await source.read():
                for line in reader.feed(data):
                    take(line)
            for line in reader.end():
                take(line)
    if not events:
        expected.flaws.append(f"{path} holds no event")
