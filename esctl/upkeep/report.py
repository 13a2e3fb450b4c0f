"""What people and programs are told of upkeep: the plan beforehand, a line a step, and the end.

Makes answers of what the rest of this package found; computes and does nothing else. Called by
`esctl cluster restart`, `destroy` and `recover`, and by `esctl node drain` and `replace`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from esctl.cli.guard import QuorumChange
from esctl.errors import CleanUpIncomplete, Inconclusive, VerdictFailed
from esctl.exits import exit_of
from esctl.query.ringsurvey import RingSurvey
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Trouble, Value, View
from esctl.ui.formatting import duration, leaders_named, partitions_named
from esctl.upkeep import drain, readiness
from esctl.upkeep.destruction import Cleared
from esctl.upkeep.drain import Drained
from esctl.upkeep.replacement import Replaced, Sameness
from esctl.upkeep.rolling import RestartStep

if TYPE_CHECKING:
    from esctl.upkeep.answers import (
        DestroyedAnswer,
        DrainedAnswer,
        PlannedDrainAnswer,
        PlannedReplacementAnswer,
        PlannedRollingAnswer,
        RecoveredAnswer,
        ReplacedAnswer,
        RollingAnswer,
        RollingData,
    )
    from esctl.upkeep.recovery import Recovered

LOOK_ENTRIES: Final = 1_000
"""What a busy leader may commit while the other nodes are asked how they are."""


def change_without(ring: RingSurvey, number: int) -> QuorumChange:
    """What becomes of the quorum while the node is away; with several partitions, of the worst of them."""
    up = {report.node.id for report in ring.worst.up}
    return QuorumChange(ring.cluster.quorum, len(up), len(up - {number}))


def waits(ring: RingSurvey, numbers: Sequence[int]) -> tuple[list[str], list[View]]:
    """What would be waited for before these nodes count, for programs and for people."""
    floors = {  # one look shows the nodes at slightly different times
        partition: replace(floor, index=max(0, floor.index - LOOK_ENTRIES))
        for partition, floor in readiness.floors_of(ring, {}).items()
    }
    found = readiness.obstacles(ring, numbers, floors)
    lines = [Line(f"it would wait first: {one.reason}; next: {one.next}", Tone.WARN) for one in found]
    return [one.reason for one in found], [*lines]


# --- rolling restart -----------------------------------------------------------------------------


def rolling_plan(ring: RingSurvey, order: Sequence[int]) -> "Answer[PlannedRollingAnswer]":
    """What a rolling restart would do, in which order, and what it would wait for first."""
    up = {report.node.id for report in ring.worst.up}
    rows: list[list[Value]] = []
    for place, number in enumerate(order, 1):
        led = [one.partition for one in drain.led_by(ring, number)]
        what = "start" if number not in up else f"hand {_led(led)}over, then restart" if led else "restart"
        meanwhile = QuorumChange(ring.cluster.quorum, len(up), len(up - {number}))
        tone = Tone.WARN if meanwhile.running_after < meanwhile.needed else Tone.NORMAL
        rows.append([place, number, what, Cell(meanwhile.text, tone)])
        up.add(number)
    reasons, lines = waits(ring, [node.id for node in ring.cluster.nodes])
    data: PlannedRollingAnswer = {**_rolling_head(ring, order), "waits_for": reasons, "dry_run": True}
    return Answer(data, [Table(["step", "node", "would", "meanwhile"], rows), *lines])


def _led(partitions: Sequence[int | None]) -> str:
    """Which of several partitions, with a space behind; empty where there is one."""
    numbers = [partition for partition in partitions if partition is not None]
    return f"{partitions_named(numbers)} " if numbers else ""


def step_line(step: RestartStep, place: int, total: int) -> Line:
    """One node is done."""
    led = _led(step.led) if len(step.leaders) > 1 else ""
    how = [f"it handed {led}over first"] * bool(step.led) + ["it did not end and was killed"] * step.killed
    told = f" ({'; '.join(how)})" if how else ""
    return Line(f"{place} of {total}: node {step.id} is back after {duration(step.seconds)}{told}", Tone.GOOD)


def rolling_answer(
    ring: RingSurvey, order: Sequence[int], done: Sequence[RestartStep]
) -> "Answer[RollingAnswer]":
    """How far a rolling restart has come; that may be to the end."""
    finished = [step.id for step in done]
    left = [number for number in order if number not in finished]
    data: RollingAnswer = {
        **_rolling_head(ring, order), "done": [step.as_data() for step in done], "left": left,
    }  # fmt: skip
    name = ring.cluster.name
    if left:
        return Answer(data, [Line(f"restarted nodes {finished} of {name}; not yet {left}", Tone.WARN)])
    text = f"all {len(order)} nodes of {name} are restarted; {leaders_named(done[-1].leaders)}"
    return Answer(data, [Line(text, Tone.GOOD)])


def _rolling_head(ring: RingSurvey, order: Sequence[int]) -> "RollingData":
    return {
        "name": ring.cluster.name,
        "rolling": True,
        "order": list(order),
        "quorum": ring.worst.quorum_data(),
    }


# --- drain ---------------------------------------------------------------------------------------


def drain_plan(ring: RingSurvey, number: int, to: int | None) -> "Answer[PlannedDrainAnswer]":
    """What a drain would do."""
    led = [one.partition for one in drain.led_by(ring, number)]
    whom = f"node {to}" if to is not None else "its best follower"
    if ring.cluster.partitions > 1 and to is None:
        whom = "the other nodes"
    which = f"the leadership of {_led(led)}".rstrip() if _led(led) else "the leadership"
    what = f"hand {which} to {whom}, and stop" if led else "stop"
    others = [node.id for node in ring.cluster.nodes if node.id != number]
    reasons, lines = waits(ring, others)
    change = change_without(ring, number)
    data: PlannedDrainAnswer = {
        "cluster": ring.cluster.name, "id": number, "quorum": change.as_data(),
        "leads": bool(led), "waits_for": reasons, "dry_run": True,
    }  # fmt: skip
    if ring.cluster.partitions > 1:
        data["led_partitions"] = [partition for partition in led if partition is not None]
    return Answer(data, [Line(f"would {what} node {number}; then {change.text}"), *lines])


def drained(ring: RingSurvey, number: int, done: Drained) -> "Answer[DrainedAnswer]":
    """The node is out of service."""
    change, several = change_without(ring, number), len(done.leaders) > 1
    data: DrainedAnswer = {
        "cluster": ring.cluster.name,
        "id": number,
        "quorum": change.as_data(),
        "leader": None if several else done.leaders[0],
        "handed_over": bool(done.handed_over),
        "killed": done.killed,
        "seconds": round(done.seconds, 3),
    }
    how = f"the leadership went to node {done.leaders[0]}; " if done.handed_over else ""
    if several:
        data["led_partitions"] = list(done.handed_over)
        data["partitions"] = [
            {"id": partition, "leader": leader} for partition, leader in enumerate(done.leaders)
        ]
        how = f"it led {_led(done.handed_over)}before; " if done.handed_over else ""
    views: list[View] = [Line(f"drained node {number}: {how}{change.text}")]
    pairs: list[tuple[str, Value]] = [("leaders now", leaders_named(done.leaders))] if several else []
    again = f"esctl node start {number} --cluster {ring.cluster.name}"
    return Answer(data, [*views, Fields([*pairs, ("back with", again)])])


# --- replace -------------------------------------------------------------------------------------


def replacement_plan(
    ring: RingSurvey, number: int, old: Path, aside: Path | None, fresh: Path
) -> "Answer[PlannedReplacementAnswer]":
    """What a replacement would do: `aside` is None when the old directory stays where it is."""
    others = [node.id for node in ring.cluster.nodes if node.id != number]
    reasons, lines = waits(ring, others)
    change = change_without(ring, number)
    data: PlannedReplacementAnswer = {
        "cluster": ring.cluster.name,
        "id": number,
        "quorum": change.as_data(),
        "old": str(aside or old),
        "data_dir": str(fresh),
        "waits_for": reasons,
        "dry_run": True,
    }
    keeps = f"move {old} to {aside}" if aside is not None else f"leave {old} as it is"
    what = f"would stop node {number}, {keeps}, and let it fetch its log into {fresh}"
    return Answer(data, [Line(f"{what}; meanwhile {change.text}"), *lines])


def replaced(
    ring: RingSurvey, number: int, done: Replaced, same: Sameness | None, *, discarded: bool
) -> "Answer[ReplacedAnswer]":
    """The node votes again; `same` is None when nobody looked whether it has what the others have."""
    change = change_without(ring, number)
    hashes = [each.get(number) for each in same.hashes] if same is not None else []
    data: ReplacedAnswer = {
        "cluster": ring.cluster.name,
        "id": number,
        "quorum": change.as_data(),
        "pid": done.pid,
        "old": str(done.old) if done.old is not None else None,
        "discarded": discarded,
        "handed_over": done.handed_over,
        "events": done.events,
        "seconds": round(done.seconds, 3),
        "hashes_equal": same.equal if same is not None else None,
        "hash": hashes[0] if len(hashes) == 1 else None,
    }
    if len(hashes) > 1:
        data["partition_hashes"] = hashes
    rate = done.events / done.seconds if done.seconds else 0.0
    pairs: list[tuple[str, Value]] = [
        ("fetched", f"{done.events:,} events in {duration(done.seconds)}, {rate:,.0f} a second"),
        ("old data", _fate(done, discarded=discarded)),
    ]
    if same is not None:
        pairs.append(("hashes equal", Cell(same.equal, Tone.GOOD if same.equal else Tone.BAD)))
    views: list[View] = [Line(f"node {number} is replaced and votes again", Tone.GOOD), Fields(pairs)]
    if same is None or (same.equal and not same.doubts):
        return Answer(data, views)
    helps = f"esctl verify --cluster {ring.cluster.name}"
    if not same.equal:
        what = f"node {number} does not hold what the others hold; keep all data directories as they are"
        return Answer(
            data,
            views,
            [Trouble(VerdictFailed.code, what, VerdictFailed.title, helps)],
            exit_of(VerdictFailed),
        )
    what = "the node votes, and not every log could be compared with its"
    return Answer(
        data, views, [Trouble(Inconclusive.code, what, "; ".join(same.doubts), helps)], exit_of(Inconclusive)
    )


def _fate(done: Replaced, *, discarded: bool) -> str:
    if done.old is None:
        return "none was found"
    return f"deleted: {done.old}" if discarded else f"kept in {done.old}"


# --- destroy and recover -------------------------------------------------------------------------


def cleared(name: str, done: Cleared, what: str = "all its data") -> "Answer[DestroyedAnswer]":
    """What is gone, and what is not: that is told in the same breath."""
    data: DestroyedAnswer = {
        "name": name, "deleted": [*map(str, done.gone)], "kept": [*map(str, done.kept)],
    }  # fmt: skip
    if done.failed:
        error = CleanUpIncomplete(
            f"could not be deleted: {', '.join(map(str, done.failed))}",
            next_step=f"esctl cluster destroy {name} --confirm {name}",
        )
        return Answer.of_error(error, data)
    if not done.kept:
        return Answer(data, [Line(f"cluster {name} is gone, with {what}")])
    kept: list[tuple[str, Value]] = [("still there", str(path)) for path in done.kept]
    return Answer(data, [Line(f"cluster {name} is gone; not all that lay beside its data is"), Fields(kept)])


def recovered(done: "Recovered") -> "Answer[RecoveredAnswer]":
    """The cluster goes on with one node's log."""
    manifest, cluster, shared = done.manifest, done.cluster, done.manifest.origin.known_offset
    data: RecoveredAnswer = {
        "name": cluster.name, "identity": cluster.identity, "epoch": manifest.origin.epoch + 1,
        "leader": done.leader, "from_node": manifest.origin.node, "next_offset": manifest.next_offset,
        "known_offset": shared,
        "events": manifest.events, "entries_beyond_commit": manifest.beyond_commit,
        "backup": str(done.backup), "tried": {str(each.node): each.outcome for each in done.tried},
        "aside": [str(path) for path in done.aside],
    }  # fmt: skip
    doubtful = f"{manifest.beyond_commit} entries of its log were not known to be committed; they are kept"
    views: list[View] = [
        Line(f"cluster {cluster.name} goes on; node {done.leader} leads", Tone.GOOD),
        Fields(
            [
                ("epoch", manifest.origin.epoch + 1),
                ("events", f"{manifest.events:,}, before offset {manifest.next_offset:,}"),
                ("may be lost", f"what was acked and had not reached node {manifest.origin.node}"),
                ("uncommitted", doubtful),
                ("old clients", f"are told (ES2020) to send again what is from {shared} on"),
                ("backup", str(done.backup)),
                ("old files", f"{len(done.aside)} beside the new ones, named .epoch-{manifest.origin.epoch}"),
                ("next", f"esctl verify --cluster {cluster.name}"),
            ]
        ),
    ]
    return Answer(data, views)
