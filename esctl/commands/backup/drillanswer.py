"""What `esctl backup drill` says: whether a restored cluster has what the running one has.

With several partitions, each is judged by itself, and the drill by the worst of them. Called by the command.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from esctl.errors import CleanUpIncomplete, DrillFailed, Inconclusive
from esctl.exits import Exit
from esctl.ui.answer import Answer, Cell, Fields, Table, Tone, Trouble, Value
from esctl.ui.values import Verdict

if TYPE_CHECKING:
    from esctl.upkeep.backups.answers import BackupDrillAnswer
    from esctl.upkeep.backups.rehearsal import DrilledPartition, Rehearsed


def answer_of(name: str, done: "Rehearsed") -> "Answer[BackupDrillAnswer]":
    """The answer about the cluster `name`."""
    events = sum(one.manifest.events for one in done.partitions)
    sent = sum(one.findings.sent_again for one in done.partitions)
    known = sum(one.findings.known_again for one in done.partitions)
    wrong = _said(done, [one.findings.wrong(one.manifest) for one in done.partitions])
    doubts = _said(done, [one.findings.doubts for one in done.partitions])
    if not events:
        doubts.append("the backup holds no event, so none was compared")
    word: Verdict = "failed" if wrong else "inconclusive" if doubts else "passed"
    only = done.partitions[0].manifest if len(done.partitions) == 1 else None
    data: BackupDrillAnswer = {
        "cluster": name, "verdict": word, "common_offset": None if only is None else only.next_offset,
        "events": events, "content_hash": None if only is None else only.content_hash,
        "sent_again": sent, "known_again": known, "seconds": done.seconds, "wrong": wrong, "doubts": doubts,
        "copies": [{"cluster": c.cluster, "node": c.node, "hash": c.hash, "why": c.why or None}
                   for one in done.partitions for c in one.findings.copies],
        "left_behind": [str(path) for path in done.left],
    }  # fmt: skip
    if only is None:
        _add_partitions(data, done.partitions)
    pairs: list[tuple[str, Value]] = [
        ("events compared", events),
        ("sent again and known", Cell(f"{known:,} of {sent:,}", _tone(known == sent))),
        ("seconds", ", ".join(f"{part} {seconds:.1f}" for part, seconds in done.seconds.items())),
        ("verdict", Cell(word, {"passed": Tone.GOOD, "failed": Tone.BAD}.get(word, Tone.WARN))),
    ]
    hashes = _hashes(done.partitions[0]) if only is not None else _of_each(done.partitions)
    errors: list[Trouble] = []
    if wrong:
        errors.append(Trouble.of(DrillFailed("; ".join(wrong))))
    elif doubts:
        errors.append(Trouble.of(Inconclusive("; ".join(doubts))))
    if done.left:
        left = CleanUpIncomplete(f"could not be deleted: {', '.join(map(str, done.left))}")
        errors.append(Trouble.of(left))
    exits = {"failed": Exit.VERDICT_FAILED, "inconclusive": Exit.INCONCLUSIVE}
    code = exits.get(word, Exit.CLEANUP_INCOMPLETE if done.left else Exit.OK)
    return Answer(data, [hashes, Fields(pairs)], errors, code)


def _said(done: "Rehearsed", of_each: Sequence[Sequence[str]]) -> list[str]:
    """What is said of the partitions; of several, with their numbers."""
    if len(done.partitions) == 1:
        return list(of_each[0])
    return [f"partition {number}: {text}" for number, texts in enumerate(of_each) for text in texts]


def _add_partitions(data: "BackupDrillAnswer", partitions: "Sequence[DrilledPartition]") -> None:
    data["partitions"] = [
        {
            "id": number, "common_offset": one.manifest.next_offset, "events": one.manifest.events,
            "content_hash": one.manifest.content_hash,
        }
        for number, one in enumerate(partitions)
    ]  # fmt: skip
    numbers = [number for number, one in enumerate(partitions) for _ in one.findings.copies]
    for copy, number in zip(data["copies"], numbers, strict=True):
        copy["partition"] = number


def _hashes(drilled: "DrilledPartition") -> Table:
    """A row for each node of both clusters."""
    manifest, rows = drilled.manifest, list[list[Value]]()
    for copy in drilled.findings.copies:
        tone = (
            Tone.WARN if copy.hash is None else Tone.GOOD if copy.hash == manifest.content_hash else Tone.BAD
        )
        rows.append([copy.cluster, copy.node, Cell(copy.hash or copy.why, tone)])
    return Table(["cluster", "node", f"hash of the events before {manifest.next_offset:,}"], rows)


def _of_each(partitions: "Sequence[DrilledPartition]") -> Table:
    """A row for each partition: twelve nodes of four would fill a screen."""
    rows: list[list[Value]] = []
    for number, one in enumerate(partitions):
        copies = one.findings.copies
        same = sum(copy.hash == one.manifest.content_hash for copy in copies)
        told = Cell(f"{same} of {len(copies)}", _tone(same == len(copies)))
        rows.append([str(number), one.manifest.next_offset, one.manifest.content_hash, told])
    return Table(["partition", "before", "hash of the events", "nodes of both with it"], rows)


def _tone(good: bool) -> Tone:
    return Tone.GOOD if good else Tone.BAD
