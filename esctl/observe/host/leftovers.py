"""What clusters have left behind: notes of processes that ended, files that nobody owns, stray nodes.

Only what certainly belongs to nobody has a fix; data never has one. Changes nothing by itself. Called by
`examination.py`.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from esctl.clusters import nodelog, ports, state
from esctl.clusters.backends import backend_named, datadir, network, nodeprocess
from esctl.clusters.backends.interface import RunState
from esctl.errors import NetworkRefused, PortTaken
from esctl.observe.host.checkresult import CheckResult
from esctl.ui.formatting import nodes_named, quantity
from esnode.config import parse_address
from esnode.errors import EventStreamError

PORTS_OF_A_CLUSTER: Final = 6


def checks(about: str | None = None) -> dict[str, Iterator[CheckResult]]:
    """Ports, clusters, halves of clusters, and processes; of the clusters, `about` is looked at in full."""
    return {
        "ports": free_ports(),
        "clusters": clusters(about),
        "remains": remains(),
        "processes": strays(),
        "networks": networks(),
    }


def clusters(about: str | None) -> Iterator[CheckResult]:
    """Whether each cluster is as its description says; those other than `about` in one line."""
    known = state.names()
    chosen = about if about in known else None
    for name in known if chosen is None else [chosen]:
        yield from of_cluster(name)
    if chosen is not None:
        yield from of_others([name for name in known if name != chosen])


def of_others(names: Sequence[str]) -> Iterator[CheckResult]:
    """The trouble of clusters that nobody has asked about, in one line."""
    troubled = {name: [f for f in of_cluster(name) if f.result != "ok"] for name in names}
    troubled = {name: found for name, found in troubled.items() if found}
    if not troubled:
        return
    first, *_ = troubled
    what = f"{len(troubled)} of {len(names)} have trouble: {', '.join(troubled)}"
    fixable = [one for found in troubled.values() for one in found if one.fix is not None]
    fix = (lambda: "; ".join(one.mended().found for one in fixable)) if fixable else None
    yield CheckResult("other clusters", "warning", what, f"esctl doctor --cluster {first}", fix)


def free_ports() -> Iterator[CheckResult]:
    """Could a cluster of three get its ports?"""
    try:
        chosen = ports.choose(PORTS_OF_A_CLUSTER, ())
    except PortTaken as error:
        yield CheckResult("ports", "bad", str(error), "stop what listens there")
    else:
        yield CheckResult("ports", "ok", f"six in a row are free, such as {chosen[0]} to {chosen[-1]}")


def of_cluster(name: str) -> Iterator[CheckResult]:
    """Whether a cluster is as its description says; one finding when it is."""
    check = f"cluster {name}"
    try:
        cluster = state.load(name)
        processes = backend_named(cluster.backend).nodes(cluster)
    except EventStreamError as error:
        yield CheckResult(check, "bad", str(error), error.next_step)
        return
    running = {process.node.id for process in processes if process.state is not RunState.DOWN}
    missing = [node.id for node in cluster.nodes if _is_missing(node, runs=node.id in running)]
    if missing:
        what = f"the files of {nodes_named(missing)} are gone from {cluster.data_dir}"
        yield CheckResult(check, "bad", what, _for_missing(cluster))
        return
    found = []
    notes = {node.id: cluster.directory / f"node-{node.id}.pid" for node in cluster.nodes}
    dead = [path for number, path in notes.items() if number not in running and path.exists()]
    if dead:
        what = f"{quantity(len(dead), 'node')} ended without being stopped"
        said = f"removed the notes of {len(dead)} ended processes"
        found.append(CheckResult(check, "warning", what, f"esctl cluster start {name}", _removes(dead, said)))
    for process in processes:
        if process.state is RunState.DOWN:
            found += _taken_ports(check, process.node)
    aside = [path for node in cluster.nodes for path in datadir.put_aside(node)]
    if aside:
        what = f"{len(aside)} data directories of replaced nodes are kept, such as {aside[0]}"
        found.append(CheckResult(check, "ok", what, "delete them when nobody needs them any more"))
    yield from found or [CheckResult(check, "ok", "as its description says")]


def _is_missing(node: state.Node, *, runs: bool) -> bool:
    if not node.config.exists() or not node.data_dir.is_dir():
        return True
    return not runs and datadir.has_lost_its_log(node)


def _for_missing(cluster: state.Cluster) -> str:
    """What helps a cluster with files that are gone: where no node has ever run, nothing was lost."""
    if not any(nodelog.size(node.log) for node in cluster.nodes):
        return f"esctl cluster destroy {cluster.name}"
    return f"look for them as they were (a missing mount, a rename): esctl why --cluster {cluster.name}"


def remains() -> Iterator[CheckResult]:
    """Directories of clusters that never came to be, and files that were not finished."""
    root = state.clusters_root()
    if not root.is_dir():
        return
    empty = [path for path in root.iterdir() if path.is_dir() and _is_only_a_lock(path)]
    if empty:
        what = f"{len(empty)} directories of clusters that never came to be, such as {empty[0]}"
        said = f"removed {len(empty)} directories that held nothing but a lock"
        yield CheckResult(
            "remains", "warning", what, "esctl doctor --fix", lambda: _removed_directories(empty, said)
        )
    unfinished = [path for path in root.glob("*/.*.json.*") if not _runs(path.suffix[1:])]
    if unfinished:
        what = f"{len(unfinished)} files that were not finished, such as {unfinished[0]}"
        said = f"removed {len(unfinished)} files that were not finished"
        yield CheckResult("remains", "warning", what, "esctl doctor --fix", _removes(unfinished, said))


def strays() -> Iterator[CheckResult]:
    """Nodes of this user whose cluster is not known here."""
    known = {os.path.realpath(node.config) for cluster in state.readable() for node in cluster.nodes}
    elsewhere: list[tuple[int, Path]] = []
    abandoned: list[tuple[int, Path]] = []
    for process, config in sorted(nodeprocess.every_node(), key=lambda pair: pair[0].pid):
        try:
            owner = Path("/proc", str(process.pid)).stat().st_uid
        except FileNotFoundError:  # it has just ended
            continue
        if owner == os.getuid() and os.path.realpath(config) not in known:
            (elsewhere if config.exists() else abandoned).append((process.pid, config))
    if elsewhere:
        # Most likely good clusters that are noted elsewhere: nobody should be told to kill them.
        what = f"{len(elsewhere)} nodes of clusters of another XDG_STATE_HOME, such as {elsewhere[0][1]}"
        yield CheckResult("processes", "ok", what)
    for pid, config in abandoned:
        yield CheckResult(
            f"process {pid}", "warning", f"a node whose files are gone: {config}", f"kill {pid}"
        )


def networks() -> Iterator[CheckResult]:
    """Namespaces and links that a cluster had and left: one that was killed, or deleted by hand."""
    if os.geteuid() != 0:
        return  # only root makes and removes them
    for name in network.abandoned():
        check, what = f"network {name}", "namespaces and links of a cluster that is gone"
        yield CheckResult(
            check, "warning", what, "esctl doctor --fix", _takes_down(name, f"removed the {what}")
        )


def _takes_down(name: str, said: str) -> Callable[[], str]:
    def take_down() -> str:
        try:
            network.take_down(name)
        except NetworkRefused as error:
            error.next_step = f"see what is left: ip netns list; ip link show master {name}b"
            raise
        return said

    return take_down


def _taken_ports(check: str, node: state.Node) -> Iterator[CheckResult]:
    for text in (node.client, node.peer):
        address = parse_address(text)
        if not ports.is_free(address.port, address.host):
            what = f"node {node.id} is down, and something else listens on its port {address.port}"
            yield CheckResult(check, "bad", what, f"see who: ss -ltnp 'sport = :{address.port}'; stop that")


def _is_only_a_lock(directory: Path) -> bool:
    if {path.name for path in directory.iterdir()} - {".lock"}:
        return False
    try:
        with (directory / ".lock").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # somebody is making that cluster
    except FileNotFoundError:
        pass
    return True


def _runs(pid: str) -> bool:
    return not pid.isdigit() or Path("/proc", pid).exists()


def _removes(paths: Sequence[Path], said: str) -> Callable[[], str]:
    def remove() -> str:
        for path in paths:
            path.unlink(missing_ok=True)
        return said

    return remove


def _removed_directories(directories: Sequence[Path], said: str) -> str:
    for directory in directories:
        if _is_only_a_lock(directory):  # still
            (directory / ".lock").unlink(missing_ok=True)
            directory.rmdir()
    return said
