"""`esctl verify`: the proof that nothing was lost, doubled, changed or reordered.

Reads every node's log itself and, with --input, every event of the files that were sent. Three ends: it
passed, it failed (exit 11), or there was not enough to judge by (exit 12). Needs about 50 bytes of memory
for each event of the log, and 50 for each of the input; three times the first when the nodes disagree. What
was stored again after the deduplication window is no duplicate: it is counted, and listed with --strict.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final, TypedDict

import typer

from esctl.cli.durationoption import duration_option
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters.backends import backend_named, datadir
from esctl.errors import Inconclusive, InvalidArgument, VerdictFailed
from esctl.exits import Exit, exit_of
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Trouble, Value, View
from esctl.ui.escape import quoted
from esctl.ui.formatting import duration, quantity
from esctl.ui.values import ClusterName, Count, NodeId, Seconds, Verdict
from esctl.verify.verdict import Flaw
from esnode.errors import Unreachable

if TYPE_CHECKING:
    from esctl.clusters.state import Cluster
    from esctl.verify.history import History
    from esctl.verify.reading import ReadOutcome
    from esctl.verify.verdict import LogVerdict, StoredAgain

app = new_typer()
DEFAULT_WAIT_S: Final = 5.0


class StoredAgainData(TypedDict):
    """An event that was stored a second time, after the deduplication window."""

    offset: Count
    earlier_offset: Count
    after_ms: Count


class VerifiedInput(TypedDict):
    """What was read of the input, and how it compares with the log."""

    files: list[str]
    lines: Count
    malformed: Count
    distinct: Count
    not_in_input: Count


class FindingData(TypedDict):
    """Something that is wrong."""

    flaw: Flaw
    node: NodeId | None
    offset: Count | None
    text: str


class VerifiedNode(TypedDict):
    """What was read of one node."""

    id: NodeId
    up: bool
    first_offset: Count | None
    next_offset: Count | None
    hash: str | None
    why: str | None


class VerifyAnswer(TypedDict):
    """Whether anything was lost, doubled, changed or reordered."""

    cluster: ClusterName
    ok: bool
    verdict: Verdict
    events: Count
    acked_lost: Count
    duplicates: Count
    stored_again: Count
    stored_again_at: list[StoredAgainData]
    changed: Count
    hashes_equal: bool
    common_offset: int
    target_offset: int
    input: VerifiedInput
    counts: dict[str, Count]
    findings: list[FindingData]
    doubts: list[str]
    seconds: Seconds
    nodes: list[VerifiedNode]


@dataclass(slots=True)
class Expected:
    """What was read of the input."""

    files: list[str]
    lines: int = 0
    malformed: int = 0
    flaws: list[str] = field(default_factory=list)
    """Of whole inputs: one that holds no event, or ends before its end."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The whole of one run."""

    cluster: "Cluster"
    expected: Expected
    reading: "ReadOutcome"
    verdict: "LogVerdict"
    seconds: float
    mending: Sequence[str] = ()
    """What to type so that the nodes that did not answer do; the cluster is not named."""
    data_is_gone: bool = False
    """Are there too few logs for a majority, so that nodes should not be started?"""

    @property
    def doubts(self) -> list[str]:
        """Why there is not enough to judge by; empty when there is."""
        found = list(self.expected.flaws)
        if self.expected.malformed and not self.expected.flaws:
            found.append(
                f"{quantity(self.expected.malformed, 'line')} of the input could not be read as an event"
            )
        found += [f"node {number}: {why}" for number, why in sorted(self.reading.troubles.items())]
        if not self.reading.confirmed:
            found.append("no majority confirmed where the log ends, so acked events may not be applied yet")
        if self.verdict.unjudged:
            found.append(
                f"{quantity(self.verdict.unjudged, 'event')} of the input may have been cut by retention"
            )
        if self.nothing_to_compare:
            found.append("the log holds no event, so there is nothing to compare")
        return found

    @property
    def nothing_to_compare(self) -> bool:
        """Was every log that was read empty, and no input given?"""
        nodes = self.verdict.nodes.values()
        empty = all(node.first_offset == node.next_offset for node in nodes)
        return not self.expected.files and bool(nodes) and empty

    @property
    def exit(self) -> Exit:
        """How it ends. What is wrong is wrong, whatever else could not be seen."""
        if not self.verdict.clean:
            return Exit.VERDICT_FAILED
        return Exit.INCONCLUSIVE if self.doubts else Exit.OK


@command(app, "verify")
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
    from esctl.verify.history import History  # loaded late: it brings the wire format

    if exact and not inputs:
        raise InvalidArgument("--exact says that the inputs are all there is, and there is none",
                              next_step="esctl verify --exact --input FILE")  # fmt: skip
    cluster = run.cluster()
    begun = time.monotonic()
    history, expected = History(node.id for node in cluster.nodes), Expected(list(inputs or ()))
    reading = run.trio(lambda: _examine(run, cluster, history, expected, wait))
    with run.terminal.progress("comparing"):
        verdict = history.verdict(exact=exact, strict=strict)
    seconds = time.monotonic() - begun
    gone = datadir.too_few_logs(cluster, reading.up)
    return answer_of(Proof(cluster, expected, reading, verdict, seconds, mending_of(cluster, reading), gone))


def mending_of(cluster: "Cluster", reading: "ReadOutcome") -> list[str]:
    """A command for each node that did not answer, as far as its process tells what helps."""
    from esctl.query.survey import step_for  # loaded late: it brings trio and the client

    silent = {number for number in reading.troubles if number not in reading.up}
    processes = backend_named(cluster.backend).nodes(cluster) if silent else []
    return [step_for(process) for process in processes if process.node.id in silent]


async def _examine(
    run: Invocation, cluster: "Cluster", history: "History", expected: Expected, wait_s: float
) -> "ReadOutcome":
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

        return await reading.read_logs(cluster, history, wait_s, begin)


async def _expect(run: Invocation, history: "History", expected: Expected, number: int, path: str) -> None:
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


def answer_of(proof: Proof) -> Answer[VerifyAnswer]:
    """The answer of `esctl verify`."""
    errors: list[Trouble] = []
    if not proof.reading.up and not proof.verdict.nodes:
        return Answer(_data(proof), errors=[_nobody(proof)], exit_code=exit_of(Unreachable))
    if proof.exit is Exit.VERDICT_FAILED:
        errors.append(_failure(proof))
    elif proof.exit is Exit.INCONCLUSIVE:
        what = "nothing wrong was found, and there was not enough to judge by"
        errors.append(Trouble(Inconclusive.code, what, "; ".join(proof.doubts), _look_again(proof)))
    return Answer(_data(proof), _views(proof), errors, proof.exit)


def _nobody(proof: Proof) -> Trouble:
    name = proof.cluster.name
    return Trouble(
        Unreachable.code,
        f"no node of {name} answers",
        "; ".join(proof.doubts),
        f"esctl why --cluster {name}" if proof.data_is_gone else f"esctl cluster start {name}",
    )


def _look_again(proof: Proof) -> str:
    """What gives enough to judge by; where a node did not answer, what helps it, and the same again."""
    name = f"--cluster {proof.cluster.name}"
    if proof.expected.flaws:
        return f"esctl verify --input FILE {name}, with a file that holds all the events that were sent"
    inputs = "".join(f" --input {quoted(file)}" for file in proof.expected.files)
    if proof.nothing_to_compare and not proof.reading.troubles:
        return f"esctl produce FILE {name}; then esctl verify --input FILE {name}"
    if proof.data_is_gone:
        return f"esctl why {name}"
    if proof.mending:
        steps = "; ".join(f"{step} {name}" for step in proof.mending)
        return f"{steps}; then esctl verify{inputs} {name}"
    if proof.reading.troubles or not proof.reading.confirmed:
        return f"esctl status {name}; then esctl verify{inputs} --wait 30s {name}"
    if proof.expected.malformed:
        return f"fix the lines that are not events; then esctl verify{inputs} {name}"
    return f"esctl verify --input FILE {name}, with a file that holds only what the log still has"


def _failure(proof: Proof) -> Trouble:
    verdict, name = proof.verdict, f"--cluster {proof.cluster.name}"
    if set(verdict.counts) == {Flaw.LOST} and all(finding.file >= 0 for finding in verdict.examples):
        return Trouble(
            VerdictFailed.code,
            f"on no node: {quantity(verdict.lost, 'event')} of the input",
            "they were acked and lost, or never acked; to send the file again is safe",
            f"esctl produce {quoted(proof.expected.files[verdict.examples[0].file])} {name}",
        )
    counts = ", ".join(f"{count:,} {flaw}" for flaw, count in sorted(verdict.counts.items()))
    what = "the log is not what it should be; keep the data directories as they are"
    return Trouble(VerdictFailed.code, what, f"findings: {counts}", f"esctl logs --level warning {name}")


_WORDS: Final[dict[Exit, Verdict]] = {
    Exit.OK: "passed",
    Exit.VERDICT_FAILED: "failed",
    Exit.INCONCLUSIVE: "inconclusive",
}


def _data(proof: Proof) -> VerifyAnswer:
    verdict, reading = proof.verdict, proof.reading
    nodes: list[VerifiedNode] = []
    for node in proof.cluster.nodes:
        evidence = verdict.nodes.get(node.id)
        nodes.append(
            {
                "id": node.id,
                "up": node.id in reading.up,
                "first_offset": evidence.first_offset if evidence is not None else None,
                "next_offset": evidence.next_offset if evidence is not None else None,
                "hash": evidence.hash if evidence is not None else None,
                "why": reading.troubles.get(node.id),
            }
        )
    return {
        "cluster": proof.cluster.name,
        "ok": proof.exit is Exit.OK,
        "verdict": _WORDS.get(proof.exit, "inconclusive"),
        "events": verdict.events,
        "acked_lost": verdict.lost,
        "duplicates": verdict.duplicates,
        "stored_again": verdict.stored_again,
        "stored_again_at": [
            {"offset": one.offset, "earlier_offset": one.earlier_offset, "after_ms": one.after_ms}
            for one in verdict.again
        ],
        "changed": verdict.changed,
        "hashes_equal": verdict.hashes_equal,
        "common_offset": verdict.next_offset,
        "target_offset": reading.target,
        "input": {
            "files": proof.expected.files,
            "lines": proof.expected.lines,
            "malformed": proof.expected.malformed,
            "distinct": verdict.expected,
            "not_in_input": verdict.unexpected,
        },
        "counts": {str(flaw): count for flaw, count in sorted(verdict.counts.items())},
        "findings": [
            {"flaw": f.flaw, "node": f.node or None, "offset": f.offset if f.offset >= 0 else None,
             "text": _finding_text(proof, f.text, f.file, f.line)}
            for f in verdict.examples
        ],
        "doubts": proof.doubts,
        "seconds": round(proof.seconds, 3),
        "nodes": nodes,
    }  # fmt: skip


def _views(proof: Proof) -> list[View]:
    verdict = proof.verdict
    rows: list[list[Value]] = []
    for node in proof.cluster.nodes:
        evidence, why = verdict.nodes.get(node.id), proof.reading.troubles.get(node.id)
        state = (
            Cell("ok", Tone.GOOD)
            if why is None
            else Cell("behind" if node.id in proof.reading.up else "down", Tone.WARN)
        )
        if evidence is None:
            rows.append([node.id, state, None, None, None])
        else:
            rows.append([node.id, state, evidence.first_offset, evidence.next_offset, evidence.hash])
    word = _WORDS.get(proof.exit, "")
    tone = {Exit.OK: Tone.GOOD, Exit.INCONCLUSIVE: Tone.WARN}.get(proof.exit, Tone.BAD)
    every = len(verdict.nodes) == len(proof.cluster.nodes)
    pairs: list[tuple[str, Value]] = [
        ("events on every node" if every else "events on the nodes read", verdict.events)
    ]
    if proof.expected.files:
        pairs.append(("distinct events of the input", verdict.expected))
        if verdict.unexpected:
            pairs.append(("events in no input", verdict.unexpected))
    pairs += [
        ("acked and lost", _count(verdict.lost)),
        ("duplicates", _count(verdict.duplicates)),
    ]
    if verdict.stored_again:
        pairs.append(("stored again after the window", verdict.stored_again))
    pairs += [
        ("changed", _count(verdict.changed)),
        ("hashes equal", Cell(verdict.hashes_equal, Tone.GOOD if verdict.hashes_equal else Tone.BAD)),
        ("read and compared in", duration(proof.seconds)),
        ("verdict", Cell(word, tone)),
    ]
    views: list[View] = [
        Table(["node", "log", "first", "next", f"hash of the events before {verdict.next_offset:,}"], rows),
        Fields(pairs),
    ]
    views += [Line(_again_text(one)) for one in verdict.again]
    views += [
        Line(f"{f.flaw}: {_finding_text(proof, f.text, f.file, f.line)}", Tone.BAD) for f in verdict.examples
    ]
    return views


def _count(number: int) -> Cell:
    return Cell(number, Tone.BAD if number else Tone.GOOD)


def _again_text(one: "StoredAgain") -> str:
    minutes = f"{duration(one.after_ms / 1000)} of log time later"
    return f"stored again: the event at offset {one.offset} is also at offset {one.earlier_offset}, {minutes}"


def _finding_text(proof: Proof, text: str, file: int, line: int) -> str:
    return text if file < 0 else f"line {line} of {proof.expected.files[file]}: {text}"
