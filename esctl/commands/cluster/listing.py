"""`esctl cluster ls` and `wait`: which clusters there are, and whether one has a leader yet."""

import dataclasses
import time
from typing import TYPE_CHECKING, Annotated

from esctl.cli.arguments import (
    ClusterArgument,
)
from esctl.cli.durationoption import duration_option
from esctl.cli.invocation import Invocation
from esctl.clusters import state
from esctl.clusters.backends import backend_named
from esctl.clusters.backends.interface import RunState
from esctl.commands.cluster.starting import leaders_data
from esctl.errors import (
    ClusterNotRunning,
)
from esctl.exits import Exit
from esctl.ui.answer import Answer, Cell, Line, Table, Tone, Trouble, Value
from esctl.ui.formatting import leaders_named
from esnode.errors import EventStreamError, NoQuorum

if TYPE_CHECKING:
    from esctl.upkeep.answers import (
        ClusterRow,
        ClustersAnswer,
        LeaderlessAnswer,
        WaitAnswer,
    )


def ls(run: Invocation) -> "Answer[ClustersAnswer]":
    """List the clusters of this machine"""
    listed: list[ClusterRow] = []
    rows: list[list[Value]] = []
    errors: list[Trouble] = []
    for name in state.names():
        try:
            cluster = state.load(name)
            processes = backend_named(cluster.backend).nodes(cluster)
        except EventStreamError as error:  # one damaged description does not hide the others
            errors.append(Trouble.of(error))
            continue
        running = sum(p.state is RunState.RUNNING for p in processes)
        whole = running == len(cluster.nodes)
        tone = (
            Tone.GOOD
            if whole
            else Tone.WARN
            if running >= cluster.quorum
            else Tone.DIM
            if not running
            else Tone.BAD
        )
        rows.append(
            [
                name,
                Cell(f"{running}/{len(cluster.nodes)}", tone),
                cluster.backend,
                cluster.storage,
                cluster.created,
                str(cluster.data_dir),
            ]
        )
        listed.append(
            {"name": name, "running": running, "nodes": len(cluster.nodes), "backend": cluster.backend,
             "storage": cluster.storage, "created": cluster.created, "data_dir": str(cluster.data_dir),
             "addresses": cluster.addresses}
        )  # fmt: skip
    table = Table(
        ["name", "running", "backend", "storage", "created", "data"],
        rows,
        empty="no clusters; make one: esctl cluster up",
    )
    return Answer({"clusters": listed}, [table], errors, Exit.ERROR if errors else Exit.OK)


def wait(
    run: Invocation,
    name: ClusterArgument = None,
    timeout: Annotated[float, duration_option("--timeout", "Give up after this time")] = 30.0,
) -> "Answer[LeaderlessAnswer | WaitAnswer]":
    """Wait until the cluster has a leader"""
    from esctl.query.leader import wait_for_leaders  # loaded late: it brings trio

    cluster = run.cluster(name)
    if all(p.state is RunState.DOWN for p in backend_named(cluster.backend).nodes(cluster)):
        raise ClusterNotRunning(
            f"no node of cluster {cluster.name} is running", next_step=f"esctl cluster start {cluster.name}"
        )
    begun = time.monotonic()
    with run.terminal.progress(f"waiting for a leader of {cluster.name}"):
        try:
            leaders = run.trio(lambda: wait_for_leaders(cluster, timeout, unless_known=True))
        except NoQuorum as error:
            nobody: LeaderlessAnswer = {"name": cluster.name}
            return dataclasses.replace(Answer.of_error(error, nobody), exit_code=Exit.TIMEOUT)
    seconds = round(time.monotonic() - begun, 3)
    data: WaitAnswer = {
        "name": cluster.name, "leader": leaders[0] if cluster.partitions == 1 else None, "seconds": seconds,
    }  # fmt: skip
    if cluster.partitions == 1:
        return Answer(data, [Line(f"node {leaders[0]} leads cluster {cluster.name}", Tone.GOOD)])
    data["partitions"] = leaders_data(leaders)
    return Answer(
        data, [Line(f"every partition of {cluster.name} has a leader: {leaders_named(leaders)}", Tone.GOOD)]
    )
