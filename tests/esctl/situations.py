"""Situations of a cluster of three nodes, as a diagnosis finds them: well, unless a test says otherwise."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from esctl.clusters.backends.interface import NodeProcess, RunState
from esctl.clusters.state import Cluster, Node
from esctl.observe.diagnosis.lastwords import LastWords
from esctl.observe.diagnosis.situation import Disk, Situation
from esctl.query.survey import Report, Survey
from tests.esctl.wire_node import IDENTITY, WireNode, log

HEARD_MS = 1_357_000_000_000
HOME = Path("/tmp/none")
NODES = tuple(
    Node(
        id=n,
        client=f"127.0.0.1:{7100 + n}",
        peer=f"127.0.0.1:{7200 + n}",
        data_dir=HOME / f"node-{n}",
        config=HOME / f"node-{n}.toml",
        log=HOME / f"node-{n}.log",
    )
    for n in (1, 2, 3)
)
CLUSTER = Cluster("drill", IDENTITY, "process", "sqlite", "2013-01-01T00:00:00Z", HOME, NODES)
FREE = Disk(free_bytes=80 * 10**9, total_bytes=100 * 10**9)


def node(number: int, **changes: Any) -> Report:
    """A node that answers; node 1 leads. `changes` go into its status."""
    process = NodeProcess(CLUSTER.node(number), RunState.RUNNING, 900 + number, 50_000_000, 61.0)
    role = "leader" if number == 1 else "follower"
    status = WireNode(number, log(8), role=role, dedup={"live_keys": 8, "max_keys": 1000}).status()
    status["peers"] = {str(n): {"connected": True, "outbox_bytes": 0} for n in (1, 2, 3) if n != number}
    return Report(process, status | {"wall_time_ms": HEARD_MS} | changes, heard_ms=HEARD_MS)


def links(*, unheard: tuple[int, ...] = (), sent_a_snapshot: tuple[int, ...] = ()) -> dict[str, Any]:
    """What node 1, which leads, says of its followers."""
    return {
        str(n): {
            "connected": True,
            "outbox_bytes": 0,
            "state": "snapshot" if n in sent_a_snapshot else "replicate",
            "heard": n not in unheard,
        }
        for n in (2, 3)
    }


def gone(number: int, state: RunState = RunState.DOWN, why: str = "not running") -> Report:
    """A node that does not answer."""
    pid = None if state is RunState.DOWN else 900 + number
    return Report(NodeProcess(CLUSTER.node(number), state, pid, None, None), None, why)


def fault(
    name: str, kind: str = "block", peers: tuple[int, ...] = (), left_ms: int = 8_000
) -> dict[str, Any]:
    """One fault of a node's status."""
    return {"id": name, "kind": kind, "peers": list(peers), "left_ms": left_ms, "hits": 3}


def look(*reports: Report) -> Survey:
    """One look; nodes that are not given are well."""
    given = {report.node.id: report for report in reports}
    return Survey(CLUSTER, [given.get(n, node(n)) for n in (1, 2, 3)])


def seen(*reports: Report, before: Survey | None = None, **fields: Any) -> Situation:
    """A situation; with `before`, that look was a second earlier."""
    now = look(*reports)
    looks = [now] if before is None else [before, now]
    apart_s = 0.0 if before is None else 1.0
    return replace(Situation(looks, apart_s, read_ms=2.5, disks=dict.fromkeys((1, 2, 3), FREE)), **fields)


def ended(number: int, words: LastWords, **fields: Any) -> Situation:
    """A situation in which one node is down and left these words."""
    return seen(gone(number), words={number: words}, **fields)
