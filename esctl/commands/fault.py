"""`esctl fault`: break links, disks and nodes on purpose, for the time of a lease, and show that it hits.

The nodes themselves enforce the lease, so nothing depends on this command once it has acted; a node that was
started without faults allowed refuses. Each command says what the quorum would be before it acts, and looks
at the nodes afterwards: applied, no effect, or unknown.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from esctl import candidates, guard
from esctl.answer import Answer, Cell, Fields, Line, Table, Tone, Trouble, Value, View
from esctl.arguments import DryRun, NodeArgument, Yes
from esctl.backends import backend_named
from esctl.backends.interface import RunState
from esctl.errors import (
    CleanUpIncomplete,
    FaultNotFound,
    Inconclusive,
    InvalidArgument,
    NodeNotRunning,
    NoEffect,
)
from esctl.exits import Exit, exit_of
from esctl.faults import effect, leases
from esctl.faults import orders as ordering
from esctl.faults.effect import Effect, Judge, Look, Verdict
from esctl.faults.orders import Order
from esctl.faults.shapes import MEANINGS, Partition, Shape, listed, partition
from esctl.invocation import Invocation, command, new_typer
from esctl.state import Cluster
from esnode.errors import Unreachable

if TYPE_CHECKING:
    from esctl.inquiry.survey import Survey

app = new_typer()
Lease = Annotated[
    str, typer.Option("--lease", metavar="TIME", help="End it after so long: 500ms, 10s, 2m; at most 10m")
]
Name = Annotated[
    str | None,
    typer.Option("--id", metavar="ID", show_default=False, help="Name it so; else with a new name"),
]
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
"""No dot: where one command sets several faults, what follows a dot tells them apart."""
_TONES: Final = {Verdict.APPLIED: Tone.GOOD, Verdict.NO_EFFECT: Tone.BAD, Verdict.UNKNOWN: Tone.WARN}


@command(app, "partition", epilog="  ".join(f"{shape}: {what}." for shape, what in MEANINGS.items()))
def cut(
    run: Invocation,
    shape: Annotated[Shape, typer.Argument(help="Part the nodes like this; see below")],
    node: Annotated[
        int | None, typer.Argument(metavar="[NODE]", min=1, help="Number the node that the shape is about")
    ] = None,
    lease: Lease = "10s",
    name: Name = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> Answer:
    """Cut nodes off from each other; clients still reach all of them"""
    cluster, lease_ms = run.cluster(), ordering.lease_of(lease)
    survey = _survey(run, cluster)
    leader = survey.leader.node.id if survey.leader is not None else None
    down = [report.node.id for report in survey.down]
    wanted = partition(shape, _voters(survey), leader, node, down)
    ordered = ordering.block(wanted.cuts, _new_id("cut", name))
    data = {"leader": leader, **wanted.as_data()}
    sides = _sides(wanted)
    if not dry_run:
        run.terminal.view(sides)
        if not wanted.keeps_quorum:
            run.terminal.warn("no side can lead: nothing is acked until it is healed")
            guard.moderate(run.terminal, f"cut {cluster.name} apart for {lease}.", yes=yes)

    def judge(looks: Mapping[int, Look], elapsed_ms: int) -> list[Effect]:
        return effect.of_partition(wanted, ordered, leader, looks, elapsed_ms)

    what = f"{shape}{f' {node}' if node is not None else ''}"
    return _strike(run, survey, ordered, lease_ms, data, what, judge, dry_run=dry_run, plan=sides)


@command(app, "net")
def net(
    run: Invocation,
    link: Annotated[
        str, typer.Argument(metavar="[LINK]", help="Strike 1-3, or 2 for all links of node 2, or all")
    ] = "all",
    delay: Annotated[str | None, typer.Option("--delay", metavar="TIME", help="Hold messages back")] = None,
    jitter: Annotated[str | None, typer.Option("--jitter", metavar="TIME", help="Up to so much more")] = None,
    drop: Annotated[str | None, typer.Option("--drop", metavar="SHARE", help="Lose messages: 5%")] = None,
    duplicate: Annotated[
        str | None, typer.Option("--duplicate", metavar="SHARE", help="Send messages twice")
    ] = None,
    rate: Annotated[
        str | None, typer.Option("--rate", metavar="BYTES", help="Let through so much a second: 50k, 2M")
    ] = None,
    reset: Annotated[
        str | None, typer.Option("--reset", metavar="SHARE", help="Break the connection instead of sending")
    ] = None,
    stall: Annotated[bool, typer.Option("--stall", help="Hold everything back until it is healed")] = False,
    one_way: Annotated[
        bool, typer.Option("--one-way", help="Strike only what the first node sends to the second")
    ] = False,
    lease: Lease = "10s",
    name: Name = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> Answer:
    """Make links slow, lossy or unreliable, whole messages at a time"""
    cluster, lease_ms = run.cluster(), ordering.lease_of(lease)
    shares = {"drop": drop, "duplicate": duplicate, "reset": reset}
    kinds = ordering.kinds_of(shares, delay, jitter, rate, stall=stall)
    survey = _survey(run, cluster)
    voters = _voters(survey)
    cuts = ordering.links_of(link, voters, one_way=one_way)
    ordered = ordering.on_links(cuts, _new_id("net", name), kinds)
    total = kinds.get("stall") is not None or any(p.get("permille") == 1000 for p in kinds.values())
    severed = Partition(None, tuple(voters), frozenset(cuts if total else ()), _down(survey))
    what = f"{' + '.join(kinds)} on {'all links' if link == 'all' else f'link {link}'}"
    sides = _sides(severed)
    if not dry_run:
        run.terminal.view(sides)
    if not dry_run and not severed.keeps_quorum:
        guard.moderate(run.terminal, f"strike {cluster.name} with {what} for {lease}.", yes=yes)
    data = {"links": [list(one) for one in sorted(cuts)], **severed.as_data()}
    return _strike(run, survey, ordered, lease_ms, data, what, _counts(ordered), dry_run=dry_run, plan=sides)


@command(app, "disk")
def disk(
    run: Invocation,
    how: Annotated[
        Literal["slow", "fail", "full"],
        typer.Argument(help="Delay each commit, or refuse the next write: that ends the node"),
    ],
    number: Annotated[int, typer.Argument(metavar="NODE", min=1, help="Number the node")],
    delay: Annotated[
        str, typer.Option("--delay", metavar="TIME", help="Delay each commit so long")
    ] = "100ms",
    jitter: Annotated[str, typer.Option("--jitter", metavar="TIME", help="Up to so much more")] = "0ms",
    lease: Lease = "10s",
    name: Name = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> Answer:
    """Make a node's disk slow, or let it refuse a write as a broken or a full one does"""
    cluster, lease_ms = run.cluster(), ordering.lease_of(lease)
    cluster.node(number)
    survey = _survey(run, cluster)
    parameters = {}
    if how == "slow":
        parameters = {"delay_ms": ordering.delay_of(delay), "jitter_ms": ordering.delay_of(jitter)}
    ordered = [Order(number, _new_id("disk", name), f"disk-{how}", parameters=parameters)]
    gone = () if how == "slow" else (number,)
    change = guard.quorum_change(cluster, [report.process for report in survey.reports], without=gone)
    plan = Line(f"afterwards: {change.text}")
    if not dry_run:
        run.terminal.view(plan)
    if change.lost and not dry_run:
        guard.moderate(run.terminal, f"let the disk of node {number} refuse its next write.", yes=yes)
    data = {"node": number, "quorum": change.as_data()}
    what = f"a disk that is {how}" if how != "fail" else "a disk that fails"
    return _strike(
        run, survey, ordered, lease_ms, data, f"{what} at node {number}", _counts(ordered),
        dry_run=dry_run, plan=plan,
    )  # fmt: skip


@command(app, "kill")
def kill(
    run: Invocation,
    number: NodeArgument,
    lease: Lease = "10s",
    name: Name = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> Answer:
    """End a node without warning (SIGKILL), and start it again when the lease is over"""
    return _stop(run, "kill", number, lease, RunState.DOWN, name, yes=yes, dry_run=dry_run)


@command(app, "pause")
def pause(
    run: Invocation,
    number: NodeArgument,
    lease: Lease = "10s",
    name: Name = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> Answer:
    """Freeze a node (SIGSTOP), and let it go on when the lease is over"""
    return _stop(run, "pause", number, lease, RunState.PAUSED, name, yes=yes, dry_run=dry_run)


@command(app, "ls")
def ls(run: Invocation) -> Answer:
    """List the active faults of every node, what is left of each lease, and how often each has hit"""
    from esctl.faults import nodes  # loaded late: it brings trio and the client

    cluster = run.cluster()
    active, survey = run.trio(lambda: nodes.active(cluster))
    for one in leases.active(cluster):
        active.setdefault(one.node, []).append(one.as_data())
    for report in survey.down:
        run.terminal.warn(f"node {report.node.id} gives no answer: {report.why}")
    rows: list[list[Value]] = [
        [
            number,
            fault["id"],
            fault["kind"],
            listed(fault["peers"]) or None,
            fault["direction"] or None,
            _parameters(fault["parameters"]),
            f"{fault['left_ms'] / 1000:.1f} s",
            fault["hits"],
        ]
        for number, faults in sorted(active.items())
        for fault in faults
    ]
    columns = ["node", "fault", "kind", "peers", "way", "how", "left", "hits"]
    data = {
        "cluster": cluster.name,
        "allowed": [r.node.id for r in survey.up if (r.status or {}).get("faults_allowed")],
        "faults": [{"node": n, **fault} for n, faults in sorted(active.items()) for fault in faults],
    }
    table = Table(columns, rows, empty=f"no faults are active in {cluster.name}")
    if not survey.up:
        return Answer(data, [table], [survey.nobody], Exit.UNREACHABLE)
    return Answer(data, [table])


@command(app, "heal")
def heal(
    run: Invocation,
    fault: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]", help="End this one; see esctl fault ls", autocompletion=candidates.faults
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="End every fault of the cluster")] = False,
    dry_run: DryRun = False,
) -> Answer:
    """End faults before their lease does, and wait until the nodes hear each other again"""
    from esctl.faults import nodes  # loaded late: it brings trio and the client

    if (fault is None) is not everything:
        raise InvalidArgument("name a fault, or say --all; nothing was done", next_step="esctl fault ls")
    cluster = run.cluster()
    ids = [] if fault is None else [fault]
    if dry_run:
        active, _ = run.trio(lambda: nodes.active(cluster))
        for stopped in leases.active(cluster):
            active.setdefault(stopped.node, []).append(stopped.as_data())
        found = [
            (number, one["id"])
            for number, ones in sorted(active.items())
            for one in ones
            if everything or ordering.belongs(one["id"], ids[0])
        ]
        text = ", ".join(f"{name} on node {number}" for number, name in found) or "nothing"
        return Answer(
            {"cluster": cluster.name, "dry_run": True, "faults": found}, [Line(f"would end {text}")]
        )
    with run.terminal.progress(f"healing {cluster.name}"):
        going_on, failure = leases.heal(cluster, ids)  # first, so that these nodes answer
        healed = run.trio(lambda: nodes.heal(cluster, ids))
    ended = [{"node": n, **one} for n, ones in sorted(healed.ended.items()) for one in ones]
    ended += [{"node": one.node, **one.as_data()} for one in going_on]
    data = {"cluster": cluster.name, "healed": ended, "silent": healed.silent, "recovered": healed.recovered}
    if failure is not None:
        return Answer.of_error(failure, data)
    running = [n for n in healed.silent if _runs(cluster, n)]
    if running:
        error = CleanUpIncomplete(
            f"node {listed(running)} gives no answer: a fault there ends with its lease",
            next_step=f"esctl fault heal --all --cluster {cluster.name}",
        )
        return Answer.of_error(error, data)
    if not ended and fault is not None:
        raise FaultNotFound(
            f"no node of {cluster.name} has a fault {fault}: it was healed, or its lease is over",
            next_step=f"esctl fault ls --cluster {cluster.name}",
        )
    if not ended:
        return Answer(data, [Line(f"no faults were active in {cluster.name}")])
    names = ", ".join(f"{one['id']} on node {one['node']} (hits: {one['hits']:,})" for one in ended)
    if healed.recovered:
        calm = Line("the nodes follow one leader and hear it", Tone.GOOD)
    else:
        helps = f"esctl health --wait 10 --cluster {cluster.name}"
        calm = Line(f"the nodes do not follow one leader yet; next: {helps}", Tone.WARN)
    return Answer(data, [Line(f"healed {names}"), calm])


def _stop(
    run: Invocation,
    kind: str,
    number: int,
    lease: str,
    wanted: RunState,
    name: str | None,
    *,
    yes: bool,
    dry_run: bool,
) -> Answer:
    """Kill or pause a node, with a keeper that ends that."""
    from esctl.faults import nodes  # loaded late: it brings trio and the client

    cluster, lease_ms = run.cluster(), ordering.lease_of(lease)
    cluster.node(number)
    survey = _survey(run, cluster)
    change = guard.quorum_change(cluster, [report.process for report in survey.reports], without=[number])
    fault, what = _new_id(kind, name), f"{kind} of node {number}"
    data: dict[str, Any] = {"cluster": cluster.name, "fault": fault, "lease_ms": lease_ms, "node": number}
    data["quorum"] = change.as_data()
    if dry_run:
        line = Line(f"would {kind} node {number} for {lease_ms / 1000:g} s; then {change.text}")
        return Answer({**data, "dry_run": True}, [line])
    run.terminal.view(Line(f"afterwards: {change.text}"))
    if change.lost:
        guard.moderate(run.terminal, f"{kind} node {number} of {cluster.name} for {lease}.", yes=yes)
    helps = f"esctl fault heal {fault} --cluster {cluster.name}"
    run.on_interrupt(lambda: Answer(data), next_step=f"{helps}; its lease ends it anyway")
    if not survey.report(number).up:
        raise NodeNotRunning(
            f"node {number} gives no answer: {survey.report(number).why}; nothing was done",
            next_step=f"{survey.report(number).next_step} --cluster {cluster.name}",
        )

    async def watch() -> tuple[list[Effect], "Survey"]:
        kept = change.running_after >= change.needed
        return await nodes.watch(
            cluster, lambda looks, _: effect.of_process(number, wanted, looks), lease_ms, for_leader=kept
        )

    with run.terminal.progress(f"{what}: looking whether it hits"):
        leases.strike(cluster, leases.begin(cluster, fault, kind, number, lease_ms))
        effects, after = run.trio(watch)
    return _answer(data, what, effects, after, helps)


# --- striking -----------------------------------------------------------------------------------------


def _strike(
    run: Invocation,
    survey: "Survey",
    ordered: Sequence[Order],
    lease_ms: int,
    more: dict[str, Any],
    what: str,
    judge: Judge,
    *,
    dry_run: bool,
    plan: View,
) -> Answer:
    """Give the orders, look whether they hit, and say so."""
    from esctl.faults import nodes  # loaded late: it brings trio and the client

    cluster, fault = survey.cluster, ordered[0].id.partition(".")[0]
    orders_data = [order.as_data() for order in ordered]
    data = {"cluster": cluster.name, "fault": fault, "lease_ms": lease_ms, **more, "orders": orders_data}
    if dry_run:
        struck = listed(sorted({order.node for order in ordered}))
        head = Line(f"would set {what} for {lease_ms / 1000:g} s, on node {struck}")
        return Answer({**data, "dry_run": True}, [head, plan])
    helps = f"esctl fault heal {fault} --cluster {cluster.name}"
    run.on_interrupt(lambda: Answer(data), next_step=f"{helps}; its lease ends it anyway")

    async def strike_and_watch() -> tuple[list[Effect], "Survey"]:
        await nodes.set_all(cluster, ordered, lease_ms)
        return await nodes.watch(cluster, judge, lease_ms, for_leader=data["quorum"]["kept"])

    with run.terminal.progress(f"{what}: looking whether it hits"):
        effects, after = run.trio(strike_and_watch)
    return _answer(data, what, effects, after, helps)


def _answer(
    data: dict[str, Any], what: str, effects: Sequence[Effect], after: "Survey", helps: str
) -> Answer:
    verdict, leader = effect.of_all(effects), after.leader.node.id if after.leader is not None else None
    data |= {
        "effect": verdict.value,
        "nodes": [one.as_data() for one in effects],
        "leader_after": leader,
        "term_after": after.term or None,
    }
    rows: list[list[Value]] = [
        [one.node, Cell(one.verdict.value, _TONES[one.verdict]), one.evidence] for one in effects
    ]
    leads = f"node {leader}, term {after.term}" if leader is not None else "nobody"
    head = Fields(
        [
            ("fault", Cell(data["fault"], Tone.STRONG)),
            ("what", what),
            ("lease", f"{data['lease_ms'] / 1000:g} s"),
            ("effect", Cell(verdict.value, _TONES[verdict])),
            ("leader now", leads),
        ]
    )
    views: list[View] = [
        head,
        Table(["node", "effect", "what it shows"], rows),
        Fields([("to end it", helps)]),
    ]
    return Answer(data, views, *_ending(verdict, effects, after.cluster))


def _ending(verdict: Verdict, effects: Sequence[Effect], cluster: Cluster) -> tuple[Sequence[Trouble], Any]:
    """The error of a fault that was not shown to hit, and the exit code."""
    if verdict is Verdict.APPLIED:
        return (), Answer().exit_code
    flaw = next(one for one in effects if one.verdict is verdict)
    error: type[NoEffect | Inconclusive] = NoEffect if verdict is Verdict.NO_EFFECT else Inconclusive
    what = "has no effect" if verdict is Verdict.NO_EFFECT else "is set; whether it hits is not known"
    step = f"esctl fault ls --cluster {cluster.name}"
    return [Trouble(error.code, f"the fault {what}", f"node {flaw.node}: {flaw.evidence}", step)], exit_of(
        error
    )


def _counts(ordered: Sequence[Order]) -> Judge:
    """Judge by what the nodes have counted."""
    return lambda looks, _: effect.of_orders(ordered, looks)


def _survey(run: Invocation, cluster: Cluster) -> "Survey":
    """Every node asked. Raises `Unreachable` when none answers, `FaultsNotAllowed` when one allows none."""
    from esctl.faults import nodes  # loaded late: it brings trio and the client

    _, survey = run.trio(lambda: nodes.active(cluster))
    if not survey.up:
        raise Unreachable(survey.nobody.message, next_step=survey.nobody.next)
    nodes.check_allowed(cluster, survey)
    return survey


def _voters(survey: "Survey") -> list[int]:
    """The committed membership, as a node that answers has it."""
    return [int(number) for number in (survey.up[0].status or {})["voters"]]


def _down(survey: "Survey") -> frozenset[int]:
    return frozenset(report.node.id for report in survey.down)


def _sides(cut: Partition) -> Table:
    """What the quorum would be on each side."""
    rows: list[list[Value]] = [
        [
            listed(side),
            listed(reach),
            Cell(cut.outcome(reach), Tone.GOOD if len(reach) >= cut.needed else Tone.WARN),
        ]
        for side, reach in cut.sides()
    ]
    return Table(["node", "exchanges messages with", "so it has"], rows)


def _new_id(what: str, wanted: str | None) -> str:
    """The name that was asked for, or a short one, to be typed again."""
    if wanted is not None and not _ID.fullmatch(wanted):
        raise InvalidArgument(
            f"{wanted!r} cannot name a fault", next_step="use up to 60 letters, digits, _ and -"
        )
    return wanted or f"{what}-{secrets.token_hex(2)}"


def _parameters(parameters: dict[str, int]) -> str | None:
    return " ".join(f"{name}={value}" for name, value in parameters.items()) or None


def _runs(cluster: Cluster, number: int) -> bool:
    processes = backend_named(cluster.backend).nodes(cluster)
    return next(p.state is not RunState.DOWN for p in processes if p.node.id == number)
