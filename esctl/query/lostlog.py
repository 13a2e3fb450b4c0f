"""Whether a cluster's log is shorter than its nodes' log files say that it was.

What a node has applied was committed: no later life of the cluster may end before it. Goes by the lines that
earlier processes of the nodes have left, each with the index applied by then; a process that was killed may
have applied more than its last line says. Changes nothing. Called by `cluster start`, `status
health` and `why`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from esctl.clusters import nodelog
from esctl.clusters.backends import backend_named
from esctl.clusters.nodelog import LogLine
from esctl.clusters.state import Cluster
from esctl.query import survey as surveys
from esctl.query.survey import Survey


@dataclass(frozen=True, slots=True)
class Shortened:
    """A log that ends with entry `now`, and had `before`, as `node` said at `time`."""

    before: int
    now: int
    node: int
    time: str
    partition: int | None = None
    """Whose log, where there are several."""

    @property
    def text(self) -> str:
        """For people."""
        whose = "" if self.partition is None else f" of partition {self.partition}"
        return (
            f"the log{whose} is shorter than it was: entry {self.before:,} was applied (node {self.node},"
            f" {self.time[:19]}Z), and now it ends with entry {self.now:,}: acked events are gone"
        )


def tail(cluster: Cluster, number: int) -> list[LogLine]:
    """The last lines of a node's log."""
    path = backend_named(cluster.backend).log_path(cluster, number)
    start = max(0, nodelog.size(path) - nodelog.MAX_TAIL_BYTES)
    lines = list(nodelog.read(path, number, start))
    return lines[1:] if start else lines  # the first one may be half a line


def tails(cluster: Cluster) -> dict[int, list[LogLine]]:
    """Those of every node."""
    return {node.id: tail(cluster, node.id) for node in cluster.nodes}


async def look(cluster: Cluster) -> Shortened | None:
    """Ask the nodes, where their logs say that there is something to compare."""
    logs = tails(cluster)
    for partition in range(cluster.partitions) if cluster.partitions > 1 else (None,):
        earlier = (line for lines in logs.values() for line in _of_earlier_processes(lines, partition))
        if not any(_index(line) for line in earlier):
            continue
        found = find(await surveys.ask(cluster, partition=partition), logs)
        if found is not None:
            return found
    return None


def find(survey: Survey, logs: Mapping[int, Sequence[LogLine]]) -> Shortened | None:
    """What the nodes of an earlier life have applied and those that answer now do not have.

    None where too few of them trust their own disks: then nobody knows yet where the log ends.
    """
    if survey.may_fail < 0 or survey.rejoining:
        return None
    earlier = [line for lines in logs.values() for line in _of_earlier_processes(lines, survey.partition)]
    last = max(earlier, key=_index, default=None)
    now = max((report.number("last_index") or 0 for report in survey.up), default=0)
    if last is None or _index(last) <= now:
        return None
    return Shortened(_index(last), now, last.node, last.time, survey.partition)


def _of_earlier_processes(lines: Sequence[LogLine], partition: int | None) -> Iterable[LogLine]:
    if partition is not None:
        lines = [line for line in lines if line.fields.get("partition") == partition]
    starts = [at for at, line in enumerate(lines) if line.event == "storage_opened"]
    return lines[: starts[-1]] if starts else ()


def _index(line: LogLine) -> int:
    index = line.fields.get("index")
    return index if type(index) is int else 0
