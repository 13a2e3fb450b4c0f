"""`esctl compact`: let go of the oldest events, on every node that answers, down to a safety floor.

What an event meant for deduplication stays known; the event itself is gone. So it asks, and what a node has
not read yet, or no backup has, is cut only where the cluster's name confirms it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, NotRequired, TypedDict

import typer

from esctl.cli import guard
from esctl.cli.arguments import DryRun, PartitionOption, Yes
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.errors import BelowFloor, ClusterNotRunning, InvalidArgument
from esctl.exits import Exit
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Trouble, Value
from esctl.ui.values import ClusterName, Count, NodeId
from esnode.errors import EventStreamError

if TYPE_CHECKING:
    from esctl.query.survey import QuorumData, Survey
    from esctl.upkeep.backups.safetyfloor import Need
    from esnode.messages import PrefixCutTo

app = new_typer()


class NeedData(TypedDict):
    """From which offset on something needs the log, and what."""

    offset: Count
    what: str


class PlannedCompactionAnswer(TypedDict):
    """What would be let go of, and what is in the way; `partition` is said where there are several."""

    cluster: ClusterName
    partition: NotRequired[Count]
    dry_run: Literal[True]
    before: Count
    refused: bool
    events: Count
    quorum: "QuorumData"
    floor: list[NeedData]


class CompactedNode(TypedDict):
    """Where the log of a node began, and begins."""

    id: NodeId
    first_offset_before: Count | None
    first_offset: Count | None
    why: str | None


class CompactAnswer(TypedDict):
    """What each node has let go of; `partition` is said where there are several."""

    cluster: ClusterName
    partition: NotRequired[Count]
    before: Count
    nodes: list[CompactedNode]


@command(app, "compact", partitions=True)
def compact(
    run: Invocation,
    before: Annotated[int, typer.Option("--before", metavar="OFFSET", min=1, help="First offset to keep")],
    confirm: Annotated[
        str | None,
        typer.Option(
            "--confirm",
            metavar="NAME",
            help="Cluster name; confirms that events which followers or backups do not have yet may "
            "be deleted too",
        ),
    ] = None,
    partition: PartitionOption = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> Answer[CompactAnswer | PlannedCompactionAnswer]:
    """Delete the events before an offset, if every follower that answers and a backup have them"""
    from esctl.query import survey as surveys
    from esctl.upkeep.backups import catalog, safetyfloor  # loaded late: they bring trio and the client

    cluster = run.cluster()
    only = run.partition(cluster, partition)
    whose = cluster.name if only is None else f"partition {only} of {cluster.name}"
    survey = run.trio(lambda: surveys.ask(cluster, partition=only))
    if not survey.up:
        raise ClusterNotRunning(
            f"no node of {cluster.name} answers", next_step=f"esctl cluster start {cluster.name}"
        )
    end = max(report.number("next_offset") or 0 for report in survey.up)
    if before > end:
        raise InvalidArgument(
            f"the log of {whose} ends before offset {end}: {before} is past that",
            next_step=f"esctl compact --before {end}{_only(survey)} --cluster {cluster.name}",
        )
    held = safetyfloor.needs(survey, catalog.last_of(cluster, only))
    against = safetyfloor.in_the_way(held, before)
    if dry_run:
        return _plan(survey, before, held, against)
    if against and confirm is None and not run.terminal.interactive:
        raise _refusal(survey, before, against)
    of_it = "" if only is None else f" of partition {only}"
    lost = f"events before offset {before:,}{of_it} would be gone"
    if against or confirm is not None:
        lost += f", though {against[0].what}" if against else ""
        guard.severe(
            run.terminal,
            cluster,
            lost,
            confirm=confirm,
            words=f"compact --before {before}{_only(survey)} --cluster",
        )
    else:
        guard.moderate(run.terminal, f"The {lost} for ever.", yes=yes, typed=run.typed)
    outcome = run.trio(lambda: _cut_all(survey, before))
    return _answer(survey, before, outcome)


def _only(survey: "Survey") -> str:
    """The words for the partition, where there are several."""
    return "" if survey.partition is None else f" --partition {survey.partition}"


def _refusal(survey: "Survey", before: int, against: "Sequence[Need]") -> BelowFloor:
    cluster = survey.cluster
    reasons = "; ".join(f"{need.what}, so all from offset {need.offset:,} on is needed" for need in against)
    name = f"--cluster {cluster.name}"
    return BelowFloor(
        f"the events before offset {before:,} are still needed: {reasons}; nothing was cut",
        next_step=f"esctl backup create {name}; or, to let them go:"
        f" esctl compact --before {before}{_only(survey)} {name} --confirm {cluster.name}",
    )


def _plan(
    survey: "Survey", before: int, held: "Sequence[Need]", against: "Sequence[Need]"
) -> Answer[PlannedCompactionAnswer]:
    rows: list[Sequence[Value]] = [
        [need.offset, Cell(need.what, Tone.BAD if need in against else Tone.NORMAL)] for need in held
    ]
    firsts = [report.number("first_offset") or 0 for report in survey.up]
    data: PlannedCompactionAnswer = {
        "cluster": survey.cluster.name, "dry_run": True, "before": before, "refused": bool(against),
        "events": max(0, before - min(firsts)), "quorum": survey.quorum_data(),
        "floor": [{"offset": need.offset, "what": need.what} for need in held],
    }  # fmt: skip
    if survey.partition is not None:
        data["partition"] = survey.partition
    line = f"would let go of up to {max(0, before - min(firsts)):,} events; {survey.quorum_text}"
    return Answer(data, [Line(line), Table(["floor", "why"], rows)])


async def _cut_all(survey: "Survey", before: int) -> "dict[int, PrefixCutTo | EventStreamError]":
    """What each node that answers has cut, or why not."""
    import trio  # loaded late, with the client

    from esctl.query.survey import Report
    from esnode.client import connect_node

    outcome: dict[int, PrefixCutTo | EventStreamError] = {}

    async def cut(report: Report) -> None:
        try:
            link = connect_node(
                report.node.client,
                cluster=survey.cluster.identity,
                partition=survey.partition,
                timeout_s=None,
            )
            async with link:
                outcome[report.node.id] = await link.cut_prefix(before)
        except EventStreamError as error:
            outcome[report.node.id] = error

    async with trio.open_nursery() as nursery:
        for report in survey.up:
            nursery.start_soon(cut, report)
    return outcome


def _answer(
    survey: "Survey", before: int, outcome: "Mapping[int, PrefixCutTo | EventStreamError]"
) -> Answer[CompactAnswer]:
    rows: list[Sequence[Value]] = []
    nodes: list[CompactedNode] = []
    errors: list[Trouble] = []
    for report in survey.reports:
        number, cut, was = report.node.id, outcome.get(report.node.id), report.number("first_offset")
        why = report.why
        if isinstance(cut, EventStreamError):
            why = str(cut)
            errors.append(replace(Trouble.of(cut), message=f"node {number} has cut nothing: {cut}"))
        now = None if cut is None or isinstance(cut, EventStreamError) else cut.first_offset
        rows.append([number, was, now, Cell(why or "ok", Tone.WARN if why else Tone.GOOD)])
        nodes.append({"id": number, "first_offset_before": was, "first_offset": now, "why": why or None})
    data: CompactAnswer = {"cluster": survey.cluster.name, "before": before, "nodes": nodes}
    if survey.partition is not None:
        data["partition"] = survey.partition
    words = "whole entries only are cut; a node that is down has what it had, until it is compacted, too"
    table = Table(["node", "first offset was", "is", ""], rows)
    notes: list[tuple[str, Value]] = [("note", words)]
    if survey.cluster.storage == "sqlite":
        notes.append(
            ("room", "SQLite keeps the file's size and fills the room again; node replace gives it back")
        )
    return Answer(data, [table, Fields(notes)], errors, Exit.ERROR if errors else Exit.OK)
