"""`esctl bench failover`: what clients feel when the leader goes, struck so many times under load.

Asks before it strikes, and ends with every node running again and read to its end. The strikes are in
`esctl/chaos/failover`, the screen is in `strikes.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from esctl.chaos.failover.kinds import StrikeKind
from esctl.cli import guard
from esctl.cli.arguments import DryRun, PartitionOption, Yes
from esctl.cli.invocation import Invocation
from esctl.clusters.backends import backend_named
from esctl.commands.bench import options, screens, strikes
from esctl.errors import CleanUpIncomplete, Inconclusive, NeverRecovered, TooFewNodes, VerdictFailed
from esctl.exits import Exit, exit_of
from esctl.ui.answer import Answer, Line, Tone, Trouble, View
from esnode.errors import EventStreamError, NoQuorum

if TYPE_CHECKING:
    from pathlib import Path

    from esctl.chaos.failover.drill import Drill, Strike
    from esctl.chaos.failover.outcome import DrillOutcome, LogsReading
    from esctl.clusters.backends.interface import Backend
    from esctl.clusters.state import Cluster
    from esctl.commands.bench.answers import (
        ClientTimers,
        FailoverMeasured,
        FailoverResult,
        PlannedFailoverAnswer,
    )
    from esctl.ui.progress import Progress
    from esnode.client.timers import Timers

APPEND_TIMEOUT_S: Final = 30.0
"""What was on its way when the leader went is acked late, and not given up."""
_PLANS: Final = {
    StrikeKind.KILL: "kill the leader (SIGKILL) and start it again",
    StrikeKind.PAUSE: "freeze the leader (SIGSTOP) and let it go on",
    StrikeKind.PARTITION: "cut the leader off from the others and heal the cut",
    StrikeKind.TRANSFER: "hand the leadership over",
}


@dataclass(slots=True)
class FailoverMeasurement:
    """What there is so far."""

    given: strikes.Given
    drill: "Drill | None" = None
    outcome: "DrillOutcome | None" = None


def failover(
    run: Invocation,
    kind: Annotated[
        StrikeKind, typer.Option("--kind", help="What is done to the leader each time")
    ] = StrikeKind.KILL,
    times: Annotated[
        int, typer.Option("--times", metavar="N", min=1, max=10_000, help="How often to do it")
    ] = 10,
    rate: Annotated[
        float,
        typer.Option(
            "--rate",
            metavar="N",
            min=1,
            max=options.HIGHEST_RATE,
            help="Rate of the load, in events per second",
        ),
    ] = 1000.0,
    partition: PartitionOption = None,
    save: options.Save = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> "Answer[FailoverMeasured | PlannedFailoverAnswer]":
    """Kill, pause or cut off the leader, or transfer the leadership, repeatedly under load; measure how long
    nothing is acked, why, and whether any event is lost

    The events stay in the log: use a temporary cluster (`esctl cluster up bench`). With several partitions,
    it is about one of them: the load is of that one, and the node is struck that leads it"""
    from esctl.query import ringsurvey  # loaded late: it brings trio and the client

    screens.check_name(save)
    with run.changing() as cluster:
        backend, only = backend_named(cluster.backend), run.partition(cluster, partition)
        what = f"bench failover --kind {kind}"
        uncounted = run.trio(lambda: ringsurvey.uncounted(cluster))
        change = guard.can_spare_one(cluster, backend.nodes(cluster), what, uncounted)
        if kind is StrikeKind.TRANSFER:
            change = guard.quorum_change(cluster, backend.nodes(cluster))  # nobody goes down
        run.trio(lambda: _check_ready(cluster, what))
        if kind is StrikeKind.PARTITION:
            run.trio(lambda: _check_may_cut(cluster))
        of = "" if only is None else f" (of partition {only})"
        plan = f"{_PLANS[kind]}{of}, {'once' if times == 1 else f'{times} times'}"
        if dry_run:
            planned: PlannedFailoverAnswer = {
                "cluster": cluster.name, "kind": kind, "times": times, "quorum": change.as_data(),
                "dry_run": True,
            }  # fmt: skip
            return Answer(planned, [Line(f"would {plan}; meanwhile {change.text}")])
        screens.check_place(save)
        run.terminal.note(f"meanwhile {change.text}")
        guard.moderate(run.terminal, f"This will {plan}.", yes=yes, typed=run.typed)
        measured = _begin(cluster, kind, rate, only)
        failure = _measure_all(run, cluster, backend, measured, kind, times, rate, only)
        return answer_of(run, measured, times, failure, save)


def _measure_all(
    run: Invocation,
    cluster: "Cluster",
    backend: "Backend",
    measured: FailoverMeasurement,
    kind: StrikeKind,
    times: int,
    rate: float,
    partition: int | None,
) -> EventStreamError | None:
    """Strike, read the logs, judge; the error that ended it before its time. Ctrl-C passes through, unless
    what was struck could not be brought back: that is what must be told then."""
    run.on_interrupt(lambda: _interrupted(measured), "run it again; it makes new events each time")
    try:
        run.trio(lambda: _strike(run, cluster, backend, measured, kind, times, rate, partition))
        reading = run.trio(lambda: _read(run, cluster, partition))
        if measured.drill is not None:
            with run.terminal.progress("comparing"):
                measured.outcome = reading.judge(measured.drill.load.operations)
    except EventStreamError as error:
        return error
    except KeyboardInterrupt:
        if measured.drill is None or not measured.drill.left_out:
            raise
    finally:
        if measured.drill is not None:
            load = measured.drill.load
            run.terminal.note(screens.left_in_the_log(load.acked, load.never_acked, cluster))
    return None


async def _check_may_cut(cluster: "Cluster") -> None:
    """All nodes were started with faults allowed; raises `FaultsNotAllowed`."""
    from esctl.chaos import nodes
    from esctl.query import ringsurvey

    for survey in (await ringsurvey.ask(cluster)).partitions:
        nodes.check_allowed(cluster, survey)


async def _check_ready(cluster: "Cluster", what: str) -> None:
    """In every partition, all nodes answer and vote, and one leads: each loses the node that is struck."""
    from esctl.query import ringsurvey

    ring = await ringsurvey.ask(cluster)
    rejoining = sorted({report.node.id for survey in ring.partitions for report in survey.rejoining})
    why = [f"node {number}: {reason}" for number, reason in ring.down.items()]
    why += [f"node {number} is fetching its log from the others" for number in rejoining]
    if why:
        raise TooFewNodes(f"{what} wants every node to be well; {'; '.join(why)}; nothing was done")
    if not all(survey.leader is not None for survey in ring.partitions):
        raise NoQuorum(
            f"{ring.leader_text} of {cluster.name}; nothing was done"
            if cluster.partitions > 1
            else f"no node of {cluster.name} leads; nothing was done",
            next_step="esctl status health --wait 10s",
        )


def _begin(cluster: "Cluster", kind: StrikeKind, rate: float, partition: int | None) -> FailoverMeasurement:
    from esctl.bench import machine, openloop
    from esctl.chaos.steadyload import EVENT_BYTES
    from esnode.client.timers import Timers
    from esnode.config import load

    raft = load(cluster.nodes[0].config).raft
    given = strikes.Given(
        machine=machine.surroundings(),
        cluster={
            **machine.cluster_facts(cluster),
            "heartbeat_ms": raft.heartbeat_ms,
            "election_ms": raft.election_ms,
            "election_jitter_ms": raft.jitter_ms,
        },
        settings={
            "strike": kind,
            "rate_per_s": rate,
            "events_a_batch": openloop.events_a_batch(rate),
            "size_bytes": EVENT_BYTES,
            "window": openloop.WINDOW,
            "x": "strike",
        },
        client={
            "dials_at_once": [],
            "timers": timers_of(Timers(timeout_s=APPEND_TIMEOUT_S)),
        },
    )
    if partition is not None:
        given.settings["partition"] = partition
    return FailoverMeasurement(given)


def timers_of(timers: "Timers") -> "ClientTimers":
    """For the JSON answer."""
    return {
        "dial_again_s": timers.dial_again_s,
        "dial_again_at_most_s": timers.dial_again_at_most_s,
        "ask_when_due_s": timers.ask_when_due_s,
        "ask_when_idle_s": timers.ask_when_idle_s,
        "hang_up_s": timers.hang_up_s,
        "send_again_s": timers.send_again_s,
        "send_again_refused_by_all_s": timers.send_again_refused_by_all_s,
        "timeout_s": timers.timeout_s,
    }


async def _strike(
    run: Invocation,
    cluster: "Cluster",
    backend: "Backend",
    measured: FailoverMeasurement,
    kind: StrikeKind,
    times: int,
    rate: float,
    partition: int | None,
) -> None:
    from esctl.chaos.failover.drill import Drill
    from esctl.chaos.failover.subject import LiveCluster
    from esctl.chaos.steadyload import under_load

    with run.terminal.progress(f"strike 1 of {times}") as bar:
        async with under_load(cluster, rate, APPEND_TIMEOUT_S, partition) as (load, log):
            subject = LiveCluster(cluster, backend, partition)
            measured.given.client["dials_at_once"] = list(log.connections)
            measured.drill = Drill(
                subject, load, kind, times, lambda: log.connections, tell=_teller(run, bar, times)
            )
            await measured.drill.run()


def _teller(run: Invocation, bar: "Progress", times: int) -> "Callable[[Strike], None]":
    told = 0

    def tell(strike: "Strike") -> None:
        nonlocal told
        told += 1
        gap_ms = strike.unavailable_ms
        last = "" if gap_ms is None else f"; the last: {gap_ms:.0f} ms without an ack"
        bar.describe(f"strike {min(told + 1, times)} of {times}{last}")
        if strike.never_s is not None:
            run.terminal.warn(f"strike {told} of {times}: nothing was acked for {strike.never_s:g} s")
        if strike.missed:
            run.terminal.warn(f"strike {told} of {times} is not certain: {strike.missed}")

    return tell


async def _read(run: Invocation, cluster: "Cluster", partition: int | None) -> "LogsReading":
    from contextlib import ExitStack

    from esctl.chaos.failover.outcome import LogsReading

    reading = LogsReading(cluster, partition)
    with ExitStack() as stack:
        await reading.read(
            lambda total: stack.enter_context(run.terminal.progress("reading every node", total, "events"))
        )
    return reading


# --- the answer ------------------------------------------------------------------------------------


def answer_of(
    run: Invocation,
    measured: FailoverMeasurement,
    times: int,
    failure: EventStreamError | None,
    save: "Path | None",
) -> "Answer[FailoverMeasured]":
    """The figures, and how it ends: what is wrong is wrong, whatever else could not be seen."""
    errors, code = _end(measured, times, failure)
    result = _result(measured)
    if result is None:
        return Answer(errors=errors, exit_code=code)
    answer = Answer(result.to_json(), strikes.views(result), errors, code)
    return screens.with_file(run, answer, result, save)


def _end(
    measured: FailoverMeasurement, times: int, failure: EventStreamError | None
) -> tuple[list[Trouble], Exit]:
    drill, outcome = measured.drill, measured.outcome
    errors: list[Trouble] = []
    codes: list[Exit] = []
    if outcome is not None and not outcome.clean:
        what = f"{outcome.lost:,} acked events lost, {outcome.duplicates:,} duplicates"
        errors.append(Trouble(VerdictFailed.code, what, "; ".join(outcome.flaws), VerdictFailed.next_step))
        codes.append(Exit.VERDICT_FAILED)
    if drill is not None and (never := [one for one in drill.strikes if one.never_s is not None]):
        nodes = ", ".join(f"node {one.node}" for one in never)
        over = f"{len(never)} of {len(drill.strikes)} times, {nodes} struck, for over {never[0].never_s:g} s"
        errors.append(
            Trouble.of(NeverRecovered(f"nothing was acked until the node was brought back: {over}"))
        )
        codes.append(Exit.VERDICT_FAILED)
    if drill is not None and drill.left_out:
        left = CleanUpIncomplete(drill.left_out, next_step="esctl node ls; then: esctl cluster start")
        errors.append(Trouble.of(left))
        codes.append(Exit.CLEANUP_INCOMPLETE)
    if failure is not None:
        errors.append(Trouble.of(failure))
        codes.append(exit_of(failure))
    elif drill is not None and (doubts := strikes.doubts(drill, outcome, times)):
        errors.append(Trouble(Inconclusive.code, Inconclusive.title, "; ".join(doubts), "esctl status"))
        codes.append(Exit.INCONCLUSIVE)
    return errors, codes[0] if codes else Exit.OK


def _result(measured: FailoverMeasurement) -> "FailoverResult | None":
    """None when no strike is over."""
    if measured.drill is None or not measured.drill.strikes:
        return None
    return strikes.result_of(measured.given, measured.drill, measured.outcome)


def _interrupted(measured: FailoverMeasurement) -> "Answer[FailoverMeasured]":
    result, drill = _result(measured), measured.drill
    if drill is None:
        return Answer()
    views: list[View] = [Line("interrupted: nothing was held against the logs", Tone.WARN)]
    if drill.rescued is not None:
        views.append(Line(f"node {drill.rescued} was struck, and runs again"))
    if result is None:
        return Answer(views=views)
    return Answer(result.to_json(), [*strikes.views(result), *views])
