"""`esctl node`: one node at a time, to repair it or to see what the others do without it.

Each command says what the quorum is afterwards. Killing and pausing lose no acked event, so a script is
not asked; a person is, when the quorum would go.
"""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from esctl import guard
from esctl.answer import Answer, Cell, Fields, Line, Table, Tone, Value
from esctl.arguments import DryRun, NodeArgument, StartTimeout, StopTimeout, Yes
from esctl.backends import backend_named
from esctl.backends.interface import Backend, NodeProcess, RunState
from esctl.commands.status import duration, megabytes
from esctl.errors import InvalidArgument
from esctl.invocation import Invocation, command, new_typer
from esctl.state import Cluster

app = new_typer()
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


@command(app, "ls")
def ls(run: Invocation) -> Answer:
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
            duration(p.uptime_s),
        ]
        for p in processes
    ]
    listed = [
        {
            "id": p.node.id,
            "state": str(p.state),
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


@command(app, "start")
def start(
    run: Invocation,
    number: NodeArgument,
    timeout: StartTimeout = 30.0,
    rejoin: Annotated[
        bool, typer.Option("--rejoin", help="Its data is not its latest: fetch the log from the others")
    ] = False,
    trust_copy: Annotated[
        bool, typer.Option("--trust-copy", help="Its data was moved while it was stopped, and is its latest")
    ] = False,
    dry_run: DryRun = False,
) -> Answer:
    """Start a node that is down, and wait until it answers"""
    if rejoin and trust_copy:
        raise InvalidArgument("--rejoin and --trust-copy contradict each other; nothing was done")
    options = ["--rejoin"] * rejoin + ["--trust-copy"] * trust_copy

    def go(backend: Backend, cluster: Cluster) -> dict[str, Any]:
        if options and _look(backend, cluster, number).state is not RunState.DOWN:
            raise InvalidArgument(
                f"node {number} runs: {options[0]} is for the start of a node that is down; nothing was done",
                next_step=f"esctl node stop {number} --cluster {cluster.name}",
            )
        with run.terminal.progress(f"starting node {number}"):
            (process,) = run.trio(lambda: backend.start(cluster, [number], timeout, options))
        return {"pid": process.pid}

    return _change(run, number, "start", go, gives=True, dry_run=dry_run)


@command(app, "stop")
def stop(
    run: Invocation,
    number: NodeArgument,
    timeout: StopTimeout = 5.0,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> Answer:
    """Stop a node: it hands the leadership over first"""

    def go(backend: Backend, cluster: Cluster) -> dict[str, Any]:
        pid = _look(backend, cluster, number).pid
        with run.terminal.progress(f"stopping node {number}"):
            forced = run.trio(lambda: backend.stop(cluster, [number], timeout))
        if forced:
            run.terminal.warn(f"node {number} did not end within {timeout:g} s and was killed")
        return {"pid": pid, "killed": bool(forced)}

    return _change(run, number, "stop", go, gives=False, yes=yes, dry_run=dry_run)


@command(app, "restart")
def restart(
    run: Invocation,
    number: NodeArgument,
    timeout: StartTimeout = 30.0,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> Answer:
    """Stop a node and start it again"""

    def go(backend: Backend, cluster: Cluster) -> dict[str, Any]:
        async def both() -> NodeProcess:
            await backend.stop(cluster, [number], 5.0)
            (process,) = await backend.start(cluster, [number], timeout)
            return process

        with run.terminal.progress(f"restarting node {number}"):
            return {"pid": run.trio(both).pid}

    return _change(run, number, "restart", go, gives=True, yes=yes, dry_run=dry_run)


@command(app, "kill")
def kill(run: Invocation, number: NodeArgument, yes: Yes = False, dry_run: DryRun = False) -> Answer:
    """End a node without warning (SIGKILL)"""

    def go(backend: Backend, cluster: Cluster) -> dict[str, Any]:
        return {"pid": run.trio(lambda: backend.kill(cluster, number))}

    return _change(run, number, "kill", go, gives=False, yes=yes, dry_run=dry_run)


@command(app, "pause")
def pause(run: Invocation, number: NodeArgument, yes: Yes = False, dry_run: DryRun = False) -> Answer:
    """Freeze a node (SIGSTOP): it keeps its connections and answers nothing"""
    return _change(
        run, number, "pause", lambda b, c: {"pid": b.pause(c, number)}, gives=False, yes=yes, dry_run=dry_run
    )


@command(app, "resume")
def resume(run: Invocation, number: NodeArgument, dry_run: DryRun = False) -> Answer:
    """Let a paused node go on (SIGCONT)"""
    return _change(
        run, number, "resume", lambda b, c: {"pid": b.resume(c, number)}, gives=True, dry_run=dry_run
    )


def _change(
    run: Invocation,
    number: int,
    verb: str,
    go: Callable[[Backend, Cluster], dict[str, Any]],
    *,
    gives: bool,
    yes: bool = False,
    dry_run: bool,
) -> Answer:
    """The frame of every change: the node exists, the quorum is told, and a person may say no.

    `gives`: the node runs afterwards; otherwise it does not.
    """
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
        change = guard.quorum_change(
            cluster, processes, with_=[number] if gives else (), without=() if gives else [number]
        )
        data: dict[str, Any] = {"cluster": cluster.name, "id": number, "quorum": change.as_data()}
        if dry_run:
            return Answer(
                {**data, "pid": before.pid, "dry_run": True},
                [Line(f"would {verb} node {number}; then {change.text}")],
            )
        if change.lost:
            run.terminal.warn(f"afterwards: {change.text}")
            guard.moderate(run.terminal, f"{verb} node {number} of {cluster.name}.", yes=yes)
        data |= go(backend, cluster)
    tone = Tone.NORMAL if change.running_after >= change.needed else Tone.WARN
    process = f" (pid {data['pid']})" if data["pid"] else ""
    already = _ALREADY.get((verb, before.state))
    what = f"node {number} {already}{process}" if already else f"{_DONE[verb]} node {number}{process}"
    return Answer(data, [Line(f"{what}: {change.text}", tone)])


def _look(backend: Backend, cluster: Cluster, number: int) -> NodeProcess:
    return next(p for p in backend.nodes(cluster) if p.node.id == number)
