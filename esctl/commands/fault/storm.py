"""`esctl fault storm`: faults at random under load, and the proof that nothing was lost.

The schedule comes from `esctl/chaos/storm.py`, the storm passes in `esctl/chaos/stormrun.py`, and the
exactly-once check is that of `bench failover`.
"""

import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from esctl.chaos.storm import KINDS, ScheduledFault, Storm, draw, kinds_of, read
from esctl.cli import guard
from esctl.cli.arguments import DryRun, Yes
from esctl.cli.durationoption import duration_option
from esctl.cli.invocation import Invocation
from esctl.clusters.state import Cluster
from esctl.commands.fault.injection import survey_of, voters_of
from esctl.errors import Inconclusive, InputUnreadable, InvalidArgument, MachineRefused, NeverRecovered
from esctl.errors import VerdictFailed as Failed
from esctl.exits import Exit
from esctl.faults import leases
from esctl.faults.partitionshapes import listed
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Trouble, Value, View
from esctl.ui.formatting import duration, shared
from esctl.ui.values import Verdict

if TYPE_CHECKING:
    from esctl.chaos.failover.outcome import DrillOutcome, LogsReading
    from esctl.chaos.steadyload import SteadyLoad
    from esctl.chaos.stormrun import StormRun
    from esctl.commands.fault.answers import (
        InterruptedStormAnswer,
        PlannedStormAnswer,
        StormAnswer,
        StormHead,
        StormQuorum,
    )
    from esctl.query.ringsurvey import RingSurvey

APPEND_TIMEOUT_S: Final = 60.0
LONGEST_S: Final = 3600
NOT_A_QUORUM: Final = "nothing may be acked meanwhile"


@dataclass(slots=True)
class StormResult:
    """A storm that is over. `outcomes` has what came out of each partition; nothing where the logs were not
    read."""

    storm_run: "StormRun"
    outcomes: "Sequence[DrillOutcome]" = ()

    @property
    def lost(self) -> int | None:
        """Acked events that are not where they were acked; None where the logs were not read."""
        return sum(one.lost for one in self.outcomes) if self.outcomes else None

    @property
    def duplicates(self) -> int | None:
        """Events that a log has more than once."""
        return sum(one.duplicates for one in self.outcomes) if self.outcomes else None

    @property
    def hashes_equal(self) -> bool | None:
        """Have all nodes the same events, in every partition?"""
        return all(one.verdict.hashes_equal for one in self.outcomes) if self.outcomes else None

    @property
    def code(self) -> Exit:
        """How it ended: what is wrong is wrong, whatever else could not be seen."""
        if self.failures():
            return Exit.VERDICT_FAILED
        return Exit.INCONCLUSIVE if self.doubts() else Exit.OK

    def failures(self) -> list[str]:
        """What must not be."""
        found = []
        if not all(one.clean for one in self.outcomes):
            found.append(f"{self.lost:,} acked events lost, {self.duplicates:,} duplicates")
            found += [f"{where}{text}" for where, text in shared([one.flaws for one in self.outcomes])]
        if not self.storm_run.served:
            found.append("nothing was acked any more after the last fault had ended")
        return found

    def doubts(self) -> list[str]:
        """Why there is not enough to judge by."""
        loads, storm = self.storm_run.loads, self.storm_run.storm
        doubts = shared([one.doubts for one in self.outcomes])
        found = [f"{where}{text}" for where, text in doubts] if self.outcomes else ["the logs were not read"]
        if not all(load.acked and (load.enough or not storm.keeps_quorum) for load in loads):
            found.append(f"too little load: {', '.join(f'{load.acked:,}' for load in loads)} events acked")
        missed = [one for one in self.storm_run.results if one.missed]
        found += [f"{one.fault.kind} of {one.fault.where}: {one.missed}" for one in missed]
        return found


def storm(
    run: Invocation,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", min=0, help="Seed; the same seed gives the same storm"),
    ] = None,
    seconds: Annotated[
        float, duration_option("--duration", "Duration of the storm", low_s=1, high_s=LONGEST_S)
    ] = 30.0,
    kinds: Annotated[
        str | None,
        typer.Option(
            "--kinds",
            metavar="LIST",
            help=f"Kinds of faults, separated by commas: {', '.join(KINDS)}",
            show_default=False,
        ),
    ] = None,
    intensity: Annotated[
        int,
        typer.Option("--intensity", metavar="N", min=1, max=100, help="Number of faults per ten seconds"),
    ] = 5,
    rate: Annotated[
        float, typer.Option("--rate", metavar="N", min=1, max=10_000, help="Load, in events per second")
    ] = 200.0,
    allow_quorum_loss: Annotated[
        bool,
        typer.Option(
            "--allow-quorum-loss", help="Allow faults on so many nodes at a time that no majority is left"
        ),
    ] = False,
    replay: Annotated[
        Path | None,
        typer.Option("--replay", metavar="FILE", help="Repeat the storm that was saved in this file"),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", help="File to write the storm's schedule to, for --replay"),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> "Answer[PlannedStormAnswer | InterruptedStormAnswer | StormAnswer]":
    """Break the cluster with random faults under load; then prove that no event was lost or duplicated"""
    cluster = run.cluster()
    parts, duration_ms = kinds_of(kinds), round(seconds * 1000)
    before = survey_of(run, cluster, None)
    if replay is not None:
        wanted = _replayed(replay, voters_of(before), cluster.partitions)
    else:
        seed = secrets.randbelow(1_000_000) if seed is None else seed
        about = voters_of(before), duration_ms, parts, intensity, cluster.partitions
        wanted = draw(seed, *about, allow_quorum_loss=allow_quorum_loss)
    _check_strength(wanted, allow_quorum_loss)
    if save is not None:
        _write(save, wanted)
    head: StormHead = {"cluster": cluster.name, "storm": wanted.as_data(), "quorum": _quorum(wanted)}
    plan: list[View] = [
        _schedule(wanted, several=cluster.partitions > 1),
        Line(_quorum_text(wanted), Tone.NORMAL if wanted.keeps_quorum else Tone.WARN),
    ]
    if dry_run:
        planned: PlannedStormAnswer = {**head, "dry_run": True}
        return Answer(planned, plan)
    for view in plan:
        run.terminal.view(view)
    _check_well(before)
    what = f"break {cluster.name} {len(wanted.schedule)} times within {duration(wanted.duration_ms / 1000)}."
    guard.moderate(run.terminal, what, yes=yes, typed=run.typed)
    result = _run_storm(run, cluster, wanted, rate)
    return _answer(cluster, result, head)


# --- one storm -------------------------------------------------------------------------------------


def _run_storm(run: Invocation, cluster: Cluster, wanted: Storm, rate: float) -> StormResult:
    """Let it pass, and read every log; faults that are left after Ctrl-C are ended."""
    name = f"storm-{secrets.token_hex(2)}"
    runs: list[StormRun] = []
    interrupted: InterruptedStormAnswer = {"storm": wanted.as_data()}
    helps = f"esctl fault heal --all --cluster {cluster.name}"
    run.on_interrupt(lambda: Answer(interrupted), next_step=f"{helps}; each lease ends by itself")
    try:
        run.trio(lambda: _pass(run, cluster, wanted, rate, name, runs))
    finally:
        leases.heal(cluster, [f"{name}-{number}" for number in range(1, len(wanted.schedule) + 1)])
    result = StormResult(runs[0])
    if result.storm_run.served:
        loads = zip(result.storm_run.partitions, result.storm_run.loads, strict=True)
        result.outcomes = [_judged(run, cluster, load, partition) for partition, load in loads]
    return result


def _judged(run: Invocation, cluster: Cluster, load: "SteadyLoad", partition: int | None) -> "DrillOutcome":
    reading = run.trio(lambda: _read(run, cluster, partition))
    with run.terminal.progress("comparing"):
        return reading.judge(load.operations)


async def _pass(
    run: Invocation, cluster: Cluster, wanted: Storm, rate: float, name: str, runs: "list[StormRun]"
) -> None:
    from esctl.chaos.steadyload import under_load
    from esctl.chaos.stormrun import StormRun
    from esctl.query.ringsurvey import ring_of

    with run.terminal.progress("a calm before the storm") as bar:

        def tell(number: int, fault: ScheduledFault) -> None:
            bar.describe(f"{number} of {len(wanted.schedule)}: {fault.kind} of {fault.where}")

        several = cluster.partitions > 1
        numbers: Sequence[int | None] = (await ring_of(cluster)).partitions if several else [None]
        async with AsyncExitStack() as stack:
            loads: list[SteadyLoad] = []
            for partition in numbers:
                opened = under_load(cluster, rate / len(numbers), APPEND_TIMEOUT_S, partition)
                loads.append((await stack.enter_async_context(opened))[0])
            runs.append(StormRun(cluster, wanted, loads, numbers, name, tell))
            await runs[0].run()


async def _read(run: Invocation, cluster: Cluster, partition: int | None) -> "LogsReading":
    from esctl.chaos.failover.outcome import LogsReading

    reading, of = LogsReading(cluster, partition), "" if partition is None else f" of partition {partition}"
    with ExitStack() as stack:
        await reading.read(
            lambda total: stack.enter_context(
                run.terminal.progress(f"reading every node{of}", total, "events")
            )
        )
    return reading


# --- before and after ------------------------------------------------------------------------------


def _replayed(path: Path, voters: list[int], partitions: int) -> Storm:
    try:
        found = read(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputUnreadable(f"{path} cannot be read: {error}") from error
    if list(found.voters) != sorted(voters):
        raise InvalidArgument(
            f"{path} is about nodes {listed(found.voters)}, and these are {listed(sorted(voters))};"
            " nothing was done"
        )
    struck = {fault.partition for fault in found.schedule if fault.partition is not None}
    if struck and max(struck) >= partitions:
        raise InvalidArgument(
            f"{path} strikes partition {max(struck)}, and there are {partitions}; nothing was done"
        )
    return found


def _check_strength(wanted: Storm, allow_quorum_loss: bool) -> None:
    if not wanted.schedule:
        raise InvalidArgument("this storm would be a calm: give it more time, or a higher --intensity")
    if not (wanted.keeps_quorum or allow_quorum_loss):
        raise InvalidArgument(
            f"it strikes {wanted.worst} nodes at a time, and {wanted.spare} can be spared; nothing was done",
            next_step="esctl fault storm --allow-quorum-loss, if that is meant",
        )


def _write(path: Path, wanted: Storm) -> None:
    import json

    try:
        path.write_text(json.dumps(wanted.as_data(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise MachineRefused(f"{path} cannot be written: {error.strerror}") from error


def _check_well(ring: "RingSurvey") -> None:
    for survey in ring.partitions:
        if survey.down or survey.rejoining or survey.leader is None:
            of = "" if survey.partition is None else f"in partition {survey.partition}, "
            raise Inconclusive(
                f"a storm begins with every node well, and {of}{survey.state_text}; nothing was done",
                next_step=f"esctl status health --wait 30s --cluster {survey.cluster.name}",
            )


def _quorum(wanted: Storm) -> "StormQuorum":
    total = len(wanted.voters)
    needed = total // 2 + 1
    return {"needed": needed, "total": total, "worst_struck": wanted.worst, "kept": wanted.keeps_quorum}


def _quorum_text(wanted: Storm) -> str:
    total = len(wanted.voters)
    verdict = "a quorum all along" if wanted.keeps_quorum else f"no quorum at times: {NOT_A_QUORUM}"
    return f"at most {wanted.worst} of {total} nodes struck at a time, {total // 2 + 1} needed: {verdict}"


def _schedule(wanted: Storm, *, several: bool) -> Table:
    rows: list[list[Value]] = [
        [
            duration(fault.at_ms / 1000),
            duration(fault.for_ms / 1000),
            fault.kind,
            fault.node,
            *_struck_partition(fault, several),
            fault.how or None,
        ]
        for fault in wanted.schedule
    ]
    columns = ["at", "for", "fault", "node", *(["partition"] if several else []), "how"]
    return Table(columns, rows, title=f"the storm of seed {wanted.seed}")


def _struck_partition(fault: ScheduledFault, several: bool) -> list[Value]:
    """For a row of a table: nothing where there is one partition."""
    if not several:
        return []
    return ["all" if fault.partition is None else str(fault.partition)]


def _answer(cluster: Cluster, result: StormResult, head: "StormHead") -> "Answer[StormAnswer]":
    storm_run, several = result.storm_run, cluster.partitions > 1
    failures, doubts = result.failures(), result.doubts()
    verdict: Verdict = "failed" if failures else "inconclusive" if doubts else "passed"
    hit = [one for one in storm_run.results if one.hits]
    data: StormAnswer = {
        **head,
        "verdict": verdict,
        "faults": [one.as_data() for one in storm_run.results],
        "sent": storm_run.sent,
        "acked": storm_run.acked,
        "errors": storm_run.errors,
        "longest_gap_ms": storm_run.longest_gap_ms,
        "acked_lost": result.lost,
        "duplicates": result.duplicates,
        "hashes_equal": result.hashes_equal,
    }
    tone = {"failed": Tone.BAD, "inconclusive": Tone.WARN, "passed": Tone.GOOD}[verdict]
    rows: list[list[Value]] = [
        [
            duration(one.fault.at_ms / 1000),
            one.fault.kind,
            one.fault.node,
            *_struck_partition(one.fault, several),
            Cell("not set", Tone.WARN) if one.missed else one.hits,
        ]
        for one in storm_run.results
    ]
    gap = "-" if storm_run.longest_gap_ms is None else f"{storm_run.longest_gap_ms:,.0f} ms"
    lost = (
        "the logs were not read"
        if result.lost is None
        else f"{result.lost:,} lost, {result.duplicates:,} twice"
    )
    fields = Fields(
        [
            ("verdict", Cell(verdict, tone)),
            ("seed", str(storm_run.storm.seed)),
            ("faults", f"{len(storm_run.results)}, of which {len(hit)} hit"),
            ("events", f"{storm_run.acked:,} of {storm_run.sent:,} acked; {lost}"),
            ("longest without an ack", gap + (" in one partition" if several else "")),
        ]
    )
    columns = ["at", "fault", "node", *(["partition"] if several else []), "hits"]
    views: list[View] = [Table(columns, rows), fields]
    return Answer(data, views, _troubles(cluster, result, failures, doubts), result.code)


def _troubles(
    cluster: Cluster, result: StormResult, failures: Sequence[str], doubts: Sequence[str]
) -> list[Trouble]:
    step = f"esctl logs --level warning --cluster {cluster.name}"
    if failures:
        cls = Failed if result.storm_run.served else NeverRecovered
        return [Trouble(cls.code, cls.title, "; ".join(failures), step)]
    return [Trouble(Inconclusive.code, Inconclusive.title, "; ".join(doubts), step)] if doubts else []
