"""What the reading of all logs proves, and how it is told to people and programs.

With several partitions the answer is that of all together, and each partition has a row. Never asks a node.
Called by `esctl verify`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final, NotRequired, TypedDict

from esctl.errors import Inconclusive, VerdictFailed
from esctl.exits import Exit, exit_of
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Trouble, Value, View
from esctl.ui.escape import quoted
from esctl.ui.formatting import duration, quantity, shared
from esctl.ui.values import ClusterName, Count, NodeId, Seconds, Verdict
from esctl.verify.verdict import MAX_EXAMPLES, Flaw
from esnode.errors import Unreachable

if TYPE_CHECKING:
    from esctl.clusters.state import Cluster
    from esctl.verify.reading import ReadOutcome
    from esctl.verify.verdict import LogFinding, LogVerdict, StoredAgain


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
    """Something that is wrong; `partition` is said where there are several."""

    flaw: Flaw
    partition: NotRequired[Count]
    node: NodeId | None
    offset: Count | None
    text: str


class VerifiedNode(TypedDict):
    """What was read of one node. Of several partitions, each has offsets and a hash of its own."""

    id: NodeId
    up: bool
    first_offset: Count | None
    next_offset: Count | None
    hash: str | None
    why: str | None


class VerifiedPartition(TypedDict):
    """What was read of one partition."""

    id: Count
    ok: bool
    events: Count
    acked_lost: Count
    duplicates: Annotated[Count, "Also those of which another partition has the first"]
    stored_again: Count
    changed: Count
    misplaced: Annotated[Count, "Events whose source another partition owns"]
    hashes_equal: bool
    common_offset: int
    target_offset: int
    nodes: list[VerifiedNode]


class VerifyAnswer(TypedDict):
    """Whether anything was lost, doubled, changed or reordered; in all partitions together."""

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
    common_offset: Annotated[int | None, "null with several partitions: each has its own"]
    target_offset: Annotated[int | None, "null with several partitions: each has its own"]
    input: VerifiedInput
    counts: dict[str, Count]
    findings: list[FindingData]
    doubts: list[str]
    seconds: Seconds
    nodes: list[VerifiedNode]
    partitions: list[VerifiedPartition]


@dataclass(slots=True)
class Expected:
    """What was read of the input."""

    files: list[str]
    lines: int = 0
    malformed: int = 0
    flaws: list[str] = field(default_factory=list)
    """Of whole inputs: one that holds no event, or ends before its end."""


@dataclass(frozen=True, slots=True)
class PartitionProof:
    """One partition: how the reading of its logs went, and what it adds up to."""

    reading: "ReadOutcome"
    verdict: "LogVerdict"

    @property
    def troubles(self) -> list[str]:
        """Why it was not read to its end."""
        found = [f"node {number}: {why}" for number, why in sorted(self.reading.troubles.items())]
        if not self.reading.confirmed:
            found.append("no majority confirmed where the log ends, so acked events may not be applied yet")
        return found

    @property
    def ok(self) -> bool:
        """Was it read to its end, and is nothing wrong?"""
        return self.verdict.clean and not self.troubles


@dataclass(frozen=True, slots=True)
class Proof:
    """The whole of one run; the parts are the partitions, by number."""

    cluster: "Cluster"
    expected: Expected
    parts: Sequence[PartitionProof]
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
        found += [f"{where}{why}" for where, why in shared([part.troubles for part in self.parts])]
        unjudged = self.total(lambda verdict: verdict.unjudged)
        if unjudged:
            found.append(f"{quantity(unjudged, 'event')} of the input may have been cut by retention")
        if self.nothing_to_compare:
            found.append("the log holds no event, so there is nothing to compare")
        return found

    @property
    def unread(self) -> bool:
        """Was anything not read to its end?"""
        return any(part.troubles for part in self.parts)

    @property
    def nothing_to_compare(self) -> bool:
        """Was every log that was read empty, and no input given?"""
        nodes = [node for part in self.parts for node in part.verdict.nodes.values()]
        empty = all(node.first_offset == node.next_offset for node in nodes)
        return not self.expected.files and bool(nodes) and empty

    @property
    def nobody(self) -> bool:
        """Did no node answer?"""
        return not any(part.reading.up or part.verdict.nodes for part in self.parts)

    @property
    def clean(self) -> bool:
        """Was nothing found that must not be?"""
        return all(part.verdict.clean for part in self.parts)

    @property
    def counts(self) -> Mapping[Flaw, int]:
        """How many findings there are of each kind."""
        found = Counter[Flaw]()
        for part in self.parts:
            found.update(part.verdict.counts)
        return dict(sorted(found.items()))

    @property
    def examples(self) -> list[tuple[int, "LogFinding"]]:
        """The first findings of each kind, each with its partition."""
        found = [(number, each) for number, part in enumerate(self.parts) for each in part.verdict.examples]
        kept, few = Counter[Flaw](), []
        for number, each in sorted(found, key=lambda one: one[1].flaw):
            kept[each.flaw] += 1
            if kept[each.flaw] <= MAX_EXAMPLES:
                few.append((number, each))
        return few

    @property
    def exit(self) -> Exit:
        """How it ends. What is wrong is wrong, whatever else could not be seen."""
        if not self.clean:
            return Exit.VERDICT_FAILED
        return Exit.INCONCLUSIVE if self.doubts else Exit.OK

    def total(self, number: "Callable[[LogVerdict], int]") -> int:
        """The sum of all partitions."""
        return sum(number(part.verdict) for part in self.parts)

    def where(self, number: int) -> str:
        """The words before what is said of one partition; of the only one, none."""
        return "" if len(self.parts) == 1 else f"partition {number}: "


def answer_of(proof: Proof) -> Answer[VerifyAnswer]:
    """The answer of `esctl verify`."""
    errors: list[Trouble] = []
    if proof.nobody:
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
    if proof.nothing_to_compare and not any(part.reading.troubles for part in proof.parts):
        return f"esctl produce FILE {name}; then esctl verify --input FILE {name}"
    if proof.data_is_gone:
        return f"esctl why {name}"
    if proof.mending:
        steps = "; ".join(f"{step} {name}" for step in proof.mending)
        return f"{steps}; then esctl verify{inputs} {name}"
    if proof.unread:
        return f"esctl status {name}; then esctl verify{inputs} --wait 30s {name}"
    if proof.expected.malformed:
        return f"fix the lines that are not events; then esctl verify{inputs} {name}"
    return f"esctl verify --input FILE {name}, with a file that holds only what the log still has"


def _failure(proof: Proof) -> Trouble:
    name, examples = f"--cluster {proof.cluster.name}", [finding for _, finding in proof.examples]
    if set(proof.counts) == {Flaw.LOST} and all(finding.file >= 0 for finding in examples):
        lost = proof.total(lambda verdict: verdict.lost)
        return Trouble(
            VerdictFailed.code,
            f"on no node: {quantity(lost, 'event')} of the input",
            "they were acked and lost, or never acked; to send the file again is safe",
            f"esctl produce {quoted(proof.expected.files[examples[0].file])} {name}",
        )
    counts = ", ".join(f"{count:,} {flaw}" for flaw, count in proof.counts.items())
    what = "the log is not what it should be; keep the data directories as they are"
    return Trouble(VerdictFailed.code, what, f"findings: {counts}", f"esctl logs --level warning {name}")


_WORDS: Final[dict[Exit, Verdict]] = {
    Exit.OK: "passed",
    Exit.VERDICT_FAILED: "failed",
    Exit.INCONCLUSIVE: "inconclusive",
}


def _data(proof: Proof) -> VerifyAnswer:
    partitions = [_partition_data(proof, number) for number in range(len(proof.parts))]
    only = proof.parts[0] if len(proof.parts) == 1 else None
    again = [one for part in proof.parts for one in part.verdict.again]
    return {
        "cluster": proof.cluster.name,
        "ok": proof.exit is Exit.OK,
        "verdict": _WORDS.get(proof.exit, "inconclusive"),
        "events": proof.total(lambda verdict: verdict.events),
        "acked_lost": proof.total(lambda verdict: verdict.lost),
        "duplicates": proof.total(lambda verdict: verdict.duplicates),
        "stored_again": proof.total(lambda verdict: verdict.stored_again),
        "stored_again_at": [
            {"offset": one.offset, "earlier_offset": one.earlier_offset, "after_ms": one.after_ms}
            for one in again
        ],
        "changed": proof.total(lambda verdict: verdict.changed),
        "hashes_equal": all(part.verdict.hashes_equal for part in proof.parts),
        "common_offset": only.verdict.next_offset if only is not None else None,
        "target_offset": only.reading.target if only is not None else None,
        "input": {
            "files": proof.expected.files,
            "lines": proof.expected.lines,
            "malformed": proof.expected.malformed,
            "distinct": proof.total(lambda verdict: verdict.expected),
            "not_in_input": proof.total(lambda verdict: verdict.unexpected),
        },
        "counts": {str(flaw): count for flaw, count in proof.counts.items()},
        "findings": [_finding_data(proof, number, finding) for number, finding in proof.examples],
        "doubts": proof.doubts,
        "seconds": round(proof.seconds, 3),
        "nodes": partitions[0]["nodes"] if only is not None else _whole_nodes(partitions),
        "partitions": partitions,
    }


def _partition_data(proof: Proof, number: int) -> VerifiedPartition:
    part = proof.parts[number]
    verdict = part.verdict
    return {
        "id": number,
        "ok": part.ok,
        "events": verdict.events,
        "acked_lost": verdict.lost,
        "duplicates": verdict.duplicates,
        "stored_again": verdict.stored_again,
        "changed": verdict.changed,
        "misplaced": verdict.counts.get(Flaw.MISPLACED, 0),
        "hashes_equal": verdict.hashes_equal,
        "common_offset": verdict.next_offset,
        "target_offset": part.reading.target,
        "nodes": [_node_data(part, node.id) for node in proof.cluster.nodes],
    }


def _node_data(part: PartitionProof, number: int) -> VerifiedNode:
    evidence = part.verdict.nodes.get(number)
    return {
        "id": number,
        "up": number in part.reading.up,
        "first_offset": evidence.first_offset if evidence is not None else None,
        "next_offset": evidence.next_offset if evidence is not None else None,
        "hash": evidence.hash if evidence is not None else None,
        "why": part.reading.troubles.get(number),
    }


def _whole_nodes(partitions: Sequence[VerifiedPartition]) -> list[VerifiedNode]:
    """What is true of each node in all partitions."""
    found: list[VerifiedNode] = []
    for rows in zip(*(partition["nodes"] for partition in partitions), strict=True):
        whys = shared([[row["why"]] if row["why"] else [] for row in rows])
        found.append(
            {
                "id": rows[0]["id"],
                "up": all(row["up"] for row in rows),
                "first_offset": None,
                "next_offset": None,
                "hash": None,
                "why": "; ".join(f"{where}{why}" for where, why in whys) or None,
            }
        )
    return found


def _finding_data(proof: Proof, number: int, finding: "LogFinding") -> FindingData:
    found: FindingData = {
        "flaw": finding.flaw,
        "node": finding.node or None,
        "offset": finding.offset if finding.offset >= 0 else None,
        "text": _finding_text(proof, finding.text, finding.file, finding.line),
    }
    if len(proof.parts) > 1:
        found["partition"] = number
    return found


def _views(proof: Proof) -> list[View]:
    only = proof.parts[0] if len(proof.parts) == 1 else None
    word = _WORDS.get(proof.exit, "")
    tone = {Exit.OK: Tone.GOOD, Exit.INCONCLUSIVE: Tone.WARN}.get(proof.exit, Tone.BAD)
    every = all(len(part.verdict.nodes) == len(proof.cluster.nodes) for part in proof.parts)
    events = proof.total(lambda verdict: verdict.events)
    pairs: list[tuple[str, Value]] = [
        ("events on every node" if every else "events on the nodes read", events)
    ]
    unexpected = proof.total(lambda verdict: verdict.unexpected)
    if proof.expected.files:
        pairs.append(("distinct events of the input", proof.total(lambda verdict: verdict.expected)))
        if unexpected:
            pairs.append(("events in no input", unexpected))
    pairs += [
        ("acked and lost", _count(proof.total(lambda verdict: verdict.lost))),
        ("duplicates", _count(proof.total(lambda verdict: verdict.duplicates))),
    ]
    stored_again = proof.total(lambda verdict: verdict.stored_again)
    if stored_again:
        pairs.append(("stored again after the window", stored_again))
    if only is None:
        pairs.append(("in the wrong partition", _count(proof.counts.get(Flaw.MISPLACED, 0))))
    equal = all(part.verdict.hashes_equal for part in proof.parts)
    pairs += [
        ("changed", _count(proof.total(lambda verdict: verdict.changed))),
        ("hashes equal", Cell(equal, Tone.GOOD if equal else Tone.BAD)),
        ("read and compared in", duration(proof.seconds)),
        ("verdict", Cell(word, tone)),
    ]
    views: list[View] = [_node_table(proof, only) if only is not None else _partition_table(proof)]
    views.append(Fields(pairs))
    views += [
        Line(f"{proof.where(number)}{_again_text(one)}")
        for number, part in enumerate(proof.parts)
        for one in part.verdict.again
    ]
    views += [
        Line(f"{proof.where(n)}{f.flaw}: {_finding_text(proof, f.text, f.file, f.line)}", Tone.BAD)
        for n, f in proof.examples
    ]
    return views


def _node_table(proof: Proof, part: PartitionProof) -> Table:
    rows: list[list[Value]] = []
    for node in proof.cluster.nodes:
        evidence = part.verdict.nodes.get(node.id)
        state = _log_state(part, node.id)
        if evidence is None:
            rows.append([node.id, state, None, None, None])
        else:
            rows.append([node.id, state, evidence.first_offset, evidence.next_offset, evidence.hash])
    before = f"hash of the events before {part.verdict.next_offset:,}"
    return Table(["node", "log", "first", "next", before], rows)


def _partition_table(proof: Proof) -> Table:
    rows: list[list[Value]] = []
    for number, part in enumerate(proof.parts):
        verdict = part.verdict
        states = {node.id: _log_state(part, node.id) for node in proof.cluster.nodes}
        ailing = [f"node {node} {state.value}" for node, state in states.items() if state.tone is Tone.WARN]
        rows.append(
            [
                str(number),
                verdict.events,
                _count(verdict.lost),
                _count(verdict.duplicates),
                _count(verdict.counts.get(Flaw.MISPLACED, 0)),
                Cell(verdict.hashes_equal, Tone.GOOD if verdict.hashes_equal else Tone.BAD),
                Cell(", ".join(ailing), Tone.WARN) if ailing else Cell("all ok", Tone.GOOD),
            ]
        )
    return Table(["partition", "events", "lost", "duplicates", "misplaced", "hashes equal", "logs"], rows)


def _log_state(part: PartitionProof, number: int) -> Cell:
    if number not in part.reading.troubles:
        return Cell("ok", Tone.GOOD)
    return Cell("behind" if number in part.reading.up else "down", Tone.WARN)


def _count(number: int) -> Cell:
    return Cell(number, Tone.BAD if number else Tone.GOOD)


def _again_text(one: "StoredAgain") -> str:
    minutes = f"{duration(one.after_ms / 1000)} of log time later"
    return f"stored again: the event at offset {one.offset} is also at offset {one.earlier_offset}, {minutes}"


def _finding_text(proof: Proof, text: str, file: int, line: int) -> str:
    return text if file < 0 else f"line {line} of {proof.expected.files[file]}: {text}"
