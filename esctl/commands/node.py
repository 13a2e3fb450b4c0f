"""`esctl node`: one node at a time, to repair it or to see what the others do without it.

Each command says what the quorum is afterwards, and asks when that would go: a script says --yes.
"""

from collections.abc import Callable
from dataclasses import replace as replace_answer
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from esctl.cli import candidates, guard
from esctl.cli.arguments import DryRun, NodeArgument, StartTimeout, StopTimeout, UpkeepTimeout, Yes
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters.backends import backend_named, datadir
from esctl.clusters.backends.interface import Backend, NodeProcess, RunState
from esctl.clusters.state import Cluster
from esctl.errors import CleanUpIncomplete, InvalidArgument
from esctl.exits import exit_of
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Trouble, Value, elapsed
from esctl.ui.formatting import duration, megabytes

if TYPE_CHECKING:
    from esctl.upkeep.answers import (
        DrainedAnswer,
        NodeChangeAnswer,
        NodeData,
        NodeRow,
        NodesAnswer,
        NodeStopAnswer,
        PlannedDrainAnswer,
        PlannedNodeChangeAnswer,
        PlannedReplacementAnswer,
        ReplacedAnswer,
    )
    from esctl.upkeep.operations import NodeOperations
    from esctl.upkeep.replacement import Replaced, Sameness

app = new_typer()
N = TypeVar("N", bound="NodeChangeAnswer")
_DONE = {
    "start": "started",
    "stop": "stopped",
    "restart": "restarted",
    "kill": "killed",
    "pause": "paused",
    "resume": "resumed",
}
_ALREADY = {
    ("start", RunState.RUNNING): "runs already",
    ("stop", RunState.DOWN): "is down already",
    ("pause", RunState.PAUSED): "is paused already",
    ("resume", RunState.RUNNING): "was not paused",
}
"""What is said when there is nothing to do; that is no error."""
_TONES = {RunState.RUNNING: Tone.GOOD, RunState.PAUSED: Tone.WARN, RunState.DOWN: Tone.BAD}


@command(app, "ls", partitions=True)
def ls(run: Invocation) -> "Answer[NodesAnswer]":
    """List every configured node and its process"""
    cluster = run.cluster()
    processes = backend_named(cluster.backend).nodes(cluster)
    rows: list[list[Value]] = [
        [
            p.node.id,
            Cell(str(p.state), _TONES[p.state]),
            str(p.pid) if p.pid else None,
            p.node.client,
            p.node.peer,
            megabytes(p.rss_bytes),
            elapsed(p.uptime_s),
        ]
        for p in processes
    ]
    listed: list[NodeRow] = [
        {
            "id": p.node.id,
            "state": p.state,
            "pid": p.pid,
            "address": p.node.client,
            "peer_address": p.node.peer,
            "rss_bytes": p.rss_bytes,
            "uptime_s": p.uptime_s,
            "data_dir": str(p.node.data_dir),
            "log": str(p.node.log),
        }
        for p in processes
    ]
    head = Fields([("cluster", Cell(cluster.name, Tone.STRONG)), ("data", str(cluster.data_dir))])
    table = Table(["node", "process", "pid", "clients", "peers", "memory", "up for"], rows)
    return Answer({"name": cluster.name, "nodes": listed}, [head, table])


@command(app, "start", partitions=True)
def start(
    run: Invocation,
    number: NodeArgument,
    timeout: StartTimeout = 30.0,
    rejoin: Annotated[
        bool,
        typer.Option(
            "--rejoin", help="Fetch the log from the other nodes, because this node's data is out of date"
        ),
    ] = False,
    trust_copy: Annotated[
        bool,
        typer.Option(
            "--trust-copy",
            help="Accept data that was moved; you assert that the node was stopped at the time, and "
            "that it is the latest copy",
        ),
    ] = False,
    dry_run: DryRun = False,
) -> "Answer[NodeChangeAnswer | PlannedNodeChangeAnswer]":
    """Start a node that is down, and wait until it answers"""
    from esctl.query import lostlog  # loaded late: it brings trio

    if rejoin and trust_copy:
        raise InvalidArgument("--rejoin and --trust-copy contradict each other; nothing was done")
    options = ["--rejoin"] * rejoin + ["--trust-copy"] * trust_copy

    def go(head: "NodeData", backend: Backend, cluster: Cluster) -> "NodeChangeAnswer":
        if options and _look(backend, cluster, number).state is not RunState.DOWN:
            # Not to stop it: it may be well, and lead. `replace` waits until the others can do without it.
            step = f"node replace {number}" if rejoin else "status"
            raise InvalidArgument(
                f"node {number} runs: {options[0]} is for the start of a node that is down; nothing was done",
                next_step=f"esctl {step} --cluster {cluster.name}",
            )
        with run.terminal.progress(f"starting node {number}"):
            (process,) = run.trio(lambda: backend.start(cluster, [number], timeout, options))
        if (lost := run.trio(lambda: lostlog.look(cluster))) is not None:
            run.terminal.warn(f"{lost.text}; next: esctl why --cluster {cluster.name}")
        return {**head, "pid": process.pid}

    return _change(run, number, "start", go, gives=True, dry_run=dry_run)


@command(app, "stop", partitions=True)
def stop(
    run: Invocation,
    number: NodeArgument,
    timeout: StopTimeout = 5.0,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> "Answer[NodeStopAnswer | PlannedNodeChangeAnswer]":
    """Stop a node; if it leads, it first transfers the leadership"""

    def go(head: "NodeData", backend: Backend, cluster: Cluster) -> "NodeStopAnswer":
        pid = _look(backend, cluster, number).pid
        with run.terminal.progress(f"stopping node {number}"):
            forced = run.trio(lambda: backend.stop(cluster, [number], timeout))
        if forced:
            run.terminal.warn(f"node {number} did not end within {duration(timeout)} and was killed")
        return {**head, "pid": pid, "killed": bool(forced)}

    return _change(run, number, "stop", go, gives=False, yes=yes, dry_run=dry_run)


@command(app, "restart", partitions=True)
def restart(
    run: Invocation,
    number: NodeArgument,
    timeout: StartTimeout = 30.0,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> "Answer[NodeChangeAnswer | PlannedNodeChangeAnswer]":
    """Stop a node and start it again"""

    def go(head: "NodeData", backend: Backend, cluster: Cluster) -> "NodeChangeAnswer":
        async def both() -> NodeProcess:
            await backend.stop(cluster, [number], 5.0)
            (process,) = await backend.start(cluster, [number], timeout)
            return process

        with run.terminal.progress(f"restarting node {number}"):
            return {**head, "pid": run.trio(both).pid}

    return _change(run, number, "restart", go, gives=True, yes=yes, dry_run=dry_run)


@command(app, "drain", partitions=True)
def drain(
    run: Invocation,
    number: NodeArgument,
    to: Annotated[
        int | None,
        typer.Option(
            "--to",
            metavar="ID",
            min=1,
            help="Node to transfer the leadership to; by default, the best follower",
            autocompletion=candidates.nodes,
        ),
    ] = None,
    timeout: UpkeepTimeout = 60.0,
    dry_run: DryRun = False,
) -> "Answer[PlannedDrainAnswer | NodeData | DrainedAnswer]":
    """Take a node out of service: wait until the cluster can do without it, transfer its leadership, and
    stop it; `start` brings it back"""
    from esctl.upkeep import drain, report  # loaded late: they bring trio and the client
    from esctl.upkeep.operations import ClusterOperations

    with run.changing() as cluster:
        cluster.node(number)
        if to is not None and cluster.node(to).id == number:
            raise InvalidArgument(f"node {to} cannot take over from itself; nothing was done")
        backend = backend_named(cluster.backend)
        operations = ClusterOperations(cluster, backend, timeout)
        ring = run.trio(operations.look)
        if dry_run:
            return report.drain_plan(ring, number, to)
        if _look(backend, cluster, number).state is RunState.DOWN:
            change = report.change_without(ring, number)
            data: NodeData = {"cluster": cluster.name, "id": number, "quorum": change.as_data()}
            return Answer(data, [Line(f"node {number} is down already: {change.text}")])
        with run.terminal.progress(f"draining node {number}"):
            drained = run.trio(lambda: drain.drain(operations, number, to, timeout))
            return report.drained(ring, number, drained)


@command(app, "replace", partitions=True)
def replace(
    run: Invocation,
    number: NodeArgument,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Empty directory for the node's new data; by default, the same place, and the old "
            "data is moved aside",
        ),
    ] = None,
    discard: Annotated[
        bool,
        typer.Option(
            "--discard",
            help="Delete the old data as soon as the node has all the data that the other nodes have",
        ),
    ] = False,
    confirm: Annotated[
        str | None, typer.Option("--confirm", metavar="NAME", help="Cluster name, required with --discard")
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify",
            help="Read all logs at the end and compare their hashes (on by default; --no-verify skips it)",
        ),
    ] = True,
    timeout: UpkeepTimeout = 60.0,
    dry_run: DryRun = False,
) -> "Answer[PlannedReplacementAnswer | ReplacedAnswer]":
    """Give a node an empty data directory, and let it fetch its log from the other nodes; the old data is
    kept"""
    from esctl.upkeep import report  # loaded late: it brings trio and the client
    from esctl.upkeep.operations import ClusterOperations

    with run.changing() as cluster:
        node, now = cluster.node(number), datetime.now(UTC)
        where = data_dir.expanduser().absolute() if data_dir is not None else None
        if where is not None:
            datadir.check(cluster, number, where)
        if discard and not verify:
            raise InvalidArgument("--discard wants the proof that --no-verify leaves out; nothing was done")
        operations = ClusterOperations(cluster, backend_named(cluster.backend), timeout)
        ring = run.trio(operations.look)
        if dry_run:
            aside = datadir.aside_of(node, now) if where is None else None
            return report.replacement_plan(ring, number, node.data_dir, aside, where or node.data_dir)
        if discard:
            consequence = f"what node {number} has in {node.data_dir} would be deleted at the end"
            words = f"node replace {number} --discard --cluster"
            guard.severe(run.terminal, cluster, consequence, confirm=confirm, words=words)

        def swap() -> Path | None:
            return datadir.renew(node, now) if where is None else datadir.move(cluster, number, where)

        done = _replace(run, operations, number, swap, timeout)
        same = _compare(run, cluster, timeout) if verify else None
        discarded = discard and done.old is not None and same is not None and same.equal and not same.doubts
        left = datadir.delete(done.old) if discarded and done.old is not None else []
    if left:
        error = CleanUpIncomplete(
            f"node {number} is replaced and votes again; of its old data, could not be deleted:"
            f" {', '.join(map(str, left))}",
            next_step=f"esctl status --cluster {cluster.name}; then delete that by hand",
        )
        answer = report.replaced(ring, number, done, same, discarded=False)
        return replace_answer(answer, errors=[*answer.errors, Trouble.of(error)], exit_code=exit_of(error))
    return report.replaced(ring, number, done, same, discarded=discarded)


def _replace(
    run: Invocation,
    operations: "NodeOperations",
    number: int,
    swap: Callable[[], Path | None],
    timeout_s: float,
) -> "Replaced":
    from esctl.upkeep import replacement

    ring = run.trio(operations.look)
    name, led = ring.cluster.name, all(survey.leader is not None for survey in ring.partitions)
    total = replacement.whole(ring) if led else None
    shown = 0

    def seen(have: int, _of: int) -> None:
        nonlocal shown
        bar.advance(max(0, have - shown))
        shown = max(have, shown)

    def swap_and_say() -> Path | None:
        old = swap()  # whatever comes, the node is started then: it fetches its log by itself
        run.on_interrupt(Answer, f"esctl status health --wait 1m --cluster {name}")
        return old

    run.on_interrupt(Answer, f"its data is as it was; again: esctl node replace {number} --cluster {name}")
    with run.terminal.progress(f"replacing node {number}", total, "events") as bar:
        return run.trio(lambda: replacement.replace(operations, number, swap_and_say, timeout_s, seen))


def _compare(run: Invocation, cluster: Cluster, wait_s: float) -> "Sameness":
    from contextlib import ExitStack

    from esctl.upkeep import replacement

    with ExitStack() as stack:

        def begin(events: int) -> Any:
            return stack.enter_context(run.terminal.progress("reading every node", events, "events"))

        return run.trio(lambda: replacement.same_everywhere(cluster, wait_s, begin))


@command(app, "kill", partitions=True)
def kill(
    run: Invocation, number: NodeArgument, yes: Yes = False, dry_run: DryRun = False
) -> "Answer[NodeChangeAnswer | PlannedNodeChangeAnswer]":
    """Kill a node without warning (SIGKILL)"""

    def go(head: "NodeData", backend: Backend, cluster: Cluster) -> "NodeChangeAnswer":
        return {**head, "pid": run.trio(lambda: backend.kill(cluster, number))}

    return _change(run, number, "kill", go, gives=False, yes=yes, dry_run=dry_run)


@command(app, "pause", partitions=True)
def pause(
    run: Invocation, number: NodeArgument, yes: Yes = False, dry_run: DryRun = False
) -> "Answer[NodeChangeAnswer | PlannedNodeChangeAnswer]":
    """Freeze a node (SIGSTOP): it keeps its connections open but answers nothing"""

    def go(head: "NodeData", backend: Backend, cluster: Cluster) -> "NodeChangeAnswer":
        return {**head, "pid": backend.pause(cluster, number)}

    return _change(run, number, "pause", go, gives=False, yes=yes, dry_run=dry_run)


@command(app, "resume", partitions=True)
def resume(
    run: Invocation, number: NodeArgument, dry_run: DryRun = False
) -> "Answer[NodeChangeAnswer | PlannedNodeChangeAnswer]":
    """Resume a paused node (SIGCONT)"""

    def go(head: "NodeData", backend: Backend, cluster: Cluster) -> "NodeChangeAnswer":
        return {**head, "pid": backend.resume(cluster, number)}

    return _change(run, number, "resume", go, gives=True, dry_run=dry_run)


def _change(
    run: Invocation,
    number: int,
    verb: str,
    go: "Callable[[NodeData, Backend, Cluster], N]",
    *,
    gives: bool,
    yes: bool = False,
    dry_run: bool,
) -> "Answer[N | PlannedNodeChangeAnswer]":
    """The frame of every change: the node exists, the quorum is told, and a person may say no.

    `go` makes the change and completes what is answered. `gives`: the node runs afterwards; otherwise it
    does not.
    """
    from esctl.query import ringsurvey  # loaded late: it brings trio and the client

    with run.changing() as cluster:
        cluster.node(number)
        backend = backend_named(cluster.backend)
        processes = backend.nodes(cluster)
        before = _look(backend, cluster, number)
        if verb == "start" and before.state is RunState.PAUSED:
            raise InvalidArgument(
                f"node {number} is paused, not down; nothing was done",
                next_step=f"esctl node resume {number} --cluster {cluster.name}",
            )
        uncounted = run.trio(lambda: ringsurvey.uncounted(cluster))
        change = guard.quorum_change(
            cluster,
            processes,
            with_=[number] if gives else (),
            without=() if gives else [number],
            uncounted=uncounted,
        )
        head: NodeData = {"cluster": cluster.name, "id": number, "quorum": change.as_data()}
        if dry_run:
            planned: PlannedNodeChangeAnswer = {**head, "pid": before.pid, "dry_run": True}
            return Answer(planned, [Line(f"would {verb} node {number}; then {change.text}")])
        # A restart gives back what it takes, and may take it all the same.
        taken = change
        if verb == "restart":
            taken = guard.quorum_change(cluster, processes, without=[number], uncounted=uncounted)
        if taken.lost:
            run.terminal.warn(f"{'meanwhile' if verb == 'restart' else 'afterwards'}: {taken.text}")
            guard.moderate(run.terminal, f"{verb} node {number} of {cluster.name}.", yes=yes, typed=run.typed)
        data = go(head, backend, cluster)
    tone = Tone.NORMAL if change.running_after >= change.needed else Tone.WARN
    process = f" (pid {data['pid']})" if data["pid"] else ""
    already = _ALREADY.get((verb, before.state))
    what = f"node {number} {already}{process}" if already else f"{_DONE[verb]} node {number}{process}"
    return Answer(data, [Line(f"{what}: {change.text}", tone)])


def _look(backend: Backend, cluster: Cluster, number: int) -> NodeProcess:
    return next(p for p in backend.nodes(cluster) if p.node.id == number)
