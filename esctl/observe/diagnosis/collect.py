"""Looks at everything that a diagnosis goes by: nodes, processes, logs, disks, configurations, faults.

A second look, up to a second later, is taken only where one cannot tell: a follower is behind, a node
rejoins or is slow to answer, or nobody leads. Changes nothing and never prints. Called by `esctl why` and
`esctl status metrics`.
"""

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trio

from esctl.clusters.backends import pidfile
from esctl.clusters.backends.interface import RunState
from esctl.clusters.nodelog import LogLine
from esctl.clusters.rolechanges import RoleChange
from esctl.clusters.state import Cluster
from esctl.faults import leases
from esctl.observe.diagnosis import lastwords
from esctl.observe.diagnosis.situation import LEAST_FREE_PERCENT, Disk, Situation, StruckProcess
from esctl.query import lostlog
from esctl.query import survey as surveys
from esctl.query.barrier import confirmed_end
from esctl.query.ringsurvey import of_each
from esctl.query.survey import Survey
from esnode import config as configuration
from esnode.config import Config
from esnode.errors import EventStreamError, InvalidConfig

SHORT_S: Final = 0.3
"""By then a follower that keeps up has what its leader had at the first look."""
LONG_S: Final = 1.0
READ_TIMEOUT_S: Final = 2.0
RECENT_S: Final = 10.0
"""How far back elections are counted."""


async def gather_all(cluster: Cluster, least_free_percent: float = LEAST_FREE_PERCENT) -> list[Situation]:
    """The situation of each partition, looked at at the same time."""
    return await of_each(cluster, lambda partition: gather(cluster, least_free_percent, partition))


async def gather(
    cluster: Cluster, least_free_percent: float = LEAST_FREE_PERCENT, partition: int | None = None
) -> Situation:
    """The situation of the cluster; takes a moment, or a second more where one look cannot tell.

    Where there are several partitions, that of one of them.
    """
    begun = trio.current_time()
    first = await surveys.ask(cluster, partition=partition)
    looks = [first]
    read_ms, read_error = await _read(cluster, first)
    for after_s in (SHORT_S, LONG_S):
        if not (_unclear(looks[-1]) if len(looks) == 1 else _unclear_since(first, looks[-1])):
            break
        await trio.sleep(max(0.0, begun + after_s - trio.current_time()))  # that is what is measured
        looks = [first, await surveys.ask(cluster, partition=partition)]
    apart_s = trio.current_time() - begun
    last = looks[-1]
    tails = lostlog.tails(cluster)
    down = [r.node.id for r in last.down if r.process.state is RunState.DOWN]
    notes = {number: pidfile.read_note(cluster.directory / f"node-{number}.pid") for number in down}
    files, bad = _configurations(cluster)
    theirs = {number: [one for one in lines if one.partition == partition] for number, lines in tails.items()}
    # With several partitions, a node's last words are those of its supervisor.
    own = {number: [one for one in lines if one.partition is None] for number, lines in tails.items()}
    repairs = {number: lastwords.last_repair(lines) for number, lines in theirs.items()}
    return Situation(
        looks=looks,
        apart_s=apart_s if len(looks) > 1 else 0.0,
        read_error=read_error,
        read_ms=read_ms,
        words={number: lastwords.last_words(own[number]) for number in down},
        killed_by_us=frozenset(number for number, note in notes.items() if not note or note.ending),
        rebooted=frozenset(n for n, note in notes.items() if note and note.boot != pidfile.boot_id()),
        without_data=frozenset(report.node.id for report in last.reports if report.without_data),
        shortened=lostlog.find(last, tails),
        repairs={number: repair for number, repair in repairs.items() if repair is not None},
        elections=_recent_elections(theirs.values()),
        disks=_disks(cluster),
        struck=[
            StruckProcess(one.id, one.kind, one.node, one.as_data()["left_ms"])
            for one in leases.active(cluster)
            if one.partition in (None, partition)
        ],
        bad_configs=bad,
        files=files,
        retention_bytes={n: one.retention.bytes for n, one in files.items() if one.retention.bytes},
        least_free_percent=least_free_percent,
    )


async def _read(cluster: Cluster, look: Survey) -> tuple[float | None, EventStreamError | None]:
    """How long a confirmed read takes, or why there is none; neither where nobody could answer."""
    if look.may_fail < 0 or look.leader is None:
        return None, None
    begun = time.perf_counter()
    try:
        await confirmed_end(cluster, READ_TIMEOUT_S, partition=look.partition)
    except EventStreamError as error:
        return None, error
    return 1000 * (time.perf_counter() - begun), None


def _unclear(look: Survey) -> bool:
    """Does it take a second look to tell what this one means?"""
    if _slow(look):
        return True
    if look.may_fail < 0:
        return False
    if look.leader is None or look.rejoining:
        return True
    return any(look.behind(report, "next_offset") for report in look.up)


def _unclear_since(first: Survey, look: Survey) -> bool:
    """Does it take a longer one? Not once every follower has what the leader had at first."""
    if _slow(look) or (look.may_fail >= 0 and (look.leader is None or look.rejoining)):
        return True
    if look.leader is None:
        return False
    led = first.report(look.leader.node.id).number("next_offset") or 0
    return any((report.number("next_offset") or 0) < led for report in look.up)


def _slow(look: Survey) -> bool:
    """Does a node run and not answer? On a busy machine it may be about to."""
    return any(report.process.state is RunState.RUNNING for report in look.down)


def _recent_elections(tails: Iterable[Sequence[LogLine]]) -> list[RoleChange]:
    since = (datetime.now(UTC) - timedelta(seconds=RECENT_S)).isoformat(timespec="microseconds")
    return [one for lines in tails for one in lastwords.campaigns(lines, since.replace("+00:00", "Z"))]


def _disks(cluster: Cluster) -> dict[int, Disk]:
    """What is free for each node, where its directory is still there."""
    found = {}
    for node in cluster.nodes:
        try:
            usage = shutil.disk_usage(_existing(node.data_dir))
        except OSError:
            continue  # not ours to read; a node that cannot write to it says so itself
        found[node.id] = Disk(usage.free, usage.total)
    return found


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if os.path.lexists(each))


def _configurations(cluster: Cluster) -> tuple[dict[int, Config], dict[int, str]]:
    """The nodes' files, and why one does not load."""
    files: dict[int, Config] = {}
    bad: dict[int, str] = {}
    for node in cluster.nodes:
        try:
            files[node.id] = configuration.load(node.config)
        except InvalidConfig as error:
            bad[node.id] = str(error)
    return files, bad
