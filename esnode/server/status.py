"""What a node says of itself: one flat picture for operators, gathered at the moment it is asked.

Reads the parts of the node, changes nothing. Its keys are listed in docs/protocol.md and are a
contract. Called by the sessions through `node.py`.
"""

import dataclasses
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

import esnode
from esnode.apply import Machine
from esnode.config import Config
from esnode.dedup.batch import UNKNOWN_OFFSET
from esnode.faults import FaultTable
from esnode.loop.view import View
from esnode.raft.core import Core
from esnode.raft.following import tell_conflict
from esnode.replication.replication import Replication
from esnode.server.appendlatency import AppendLatency
from esnode.storage.worker import StorageWorker
from esnode.upkeep.checkpointer import Checkpointer
from esnode.upkeep.fullwindow import FullWindow
from esnode.upkeep.leaderspread import LeaderSpread
from esnode.wallclock import WallClock


@dataclass(frozen=True, slots=True)
class Process:
    """What the system knows of this process."""

    pid: int
    rss_bytes: int
    cpu_s: float = 0.0
    """Processor time since it began, user and system, all threads."""


@dataclass(slots=True)
class Status:
    """The parts that a status is gathered from."""

    config: Config
    core: Core
    machine: Machine
    view: View
    worker: StorageWorker
    replication: Replication
    faults: FaultTable
    checkpointer: Checkpointer
    window: FullWindow
    process: Callable[[], Process]
    clock: WallClock
    latency: AppendLatency = field(default_factory=AppendLatency)
    spread: LeaderSpread | None = None
    begun: float | None = None
    """When the node began to run, on trio's clock."""

    def gather(self) -> dict[str, Any]:
        """The status as a CBOR map: numbers, texts, maps and lists only."""
        state, raft_log, process = self.view.soft_state, self.core.log, self.process()
        distrust = self.worker.storage.distrust
        uptime_s = 0.0 if self.begun is None else trio.current_time() - self.begun
        return {
            "version": esnode.__version__,
            "cluster": self.config.cluster,
            "epoch": self.config.epoch,
            "ancestors": [list(dataclasses.astuple(ancestor)) for ancestor in self.config.ancestors],
            "id": self.config.node_id,
            "pid": process.pid,
            "role": state.role.value,
            "rejoining": state.rejoining,
            "rejoin_cause": distrust.value if state.rejoining and distrust is not None else None,
            "term": state.term,
            "leader": state.leader,
            "voters": list(self.core.voters),
            "last_index": raft_log.last_index,
            "durable_index": raft_log.durable,
            "commit_index": raft_log.committed,
            "applied_index": self.view.applied_index,
            "prefix_index": raft_log.prefix_index,
            "savepoint_index": self.checkpointer.last_index,
            "first_offset": self.view.first_offset,
            "next_offset": self.view.next_offset,
            "log_time_ms": self.machine.log_time_ms,
            "wall_time_ms": self.clock.now_ms(),
            "silence_ms": self.view.silence_ms(),
            "disk_lag_ms": self.core.disk.lag_ms,
            "disk_was_slow": self.core.disk.was_slow,
            "rss_bytes": process.rss_bytes,
            "cpu_s": round(process.cpu_s, 6),
            "uptime_s": round(uptime_s, 3),
            "append_us": self.latency.picture(),
            "storage": self.config.storage,
            "storage_bytes": self.worker.storage.size_bytes(),
            "faults_allowed": self.config.faults.allowed,
            "faults": self.faults.pictures(trio.current_time()),
            "dedup": self._dedup(),
            **({} if self.spread is None else {"placement": self.spread.picture()}),
            "ring": self._ring(),
            "peers": {str(peer): self._peer(peer) for peer in self.core.peers},
        }

    def explain(self, key: bytes) -> tuple[int, int]:
        """The offset of the event with `key` and the log time in ms that is left to it; -1 and 0.

        The time is -1 where no key expires. The offset of a known event is -1 where another partition has it.
        """
        keys = self.machine.keys
        offset = keys.lookup((key,)).get(key)
        if offset is None:
            return -1, 0
        expires_at_ms = keys.expires_at(offset)
        if self.machine.ring.now.is_adopted(offset):
            offset = UNKNOWN_OFFSET
        if expires_at_ms is None:
            assert not self.config.dedup.ttl_ms, "a known key has a time to live"
            return offset, -1
        return offset, max(1, expires_at_ms - self.machine.log_time_ms)

    def _dedup(self) -> dict[str, Any]:
        settings, keys, window = self.config.dedup, self.machine.keys, self.window
        window.look()
        return {
            "live_keys": keys.live,
            "max_keys": settings.max_keys,
            "max_bytes": settings.max_bytes,
            "ttl_ms": settings.ttl_ms,
            "when_full": settings.when_full,
            "window_ms": window.reach_ms,
            "bytes_on_disk": keys.stored_bytes,
            "bytes_in_memory": keys.size_bytes,
            "full": window.full,
            "forgotten_early": window.forgotten_early,
            "refused": window.refused,
            "producers": len(self.machine.producers),
            "named_producers": self.machine.producers.named,
            "closed_producers": self.machine.producers.closed,
        }

    def _ring(self) -> dict[str, Any]:
        now = self.machine.ring.now
        picture: dict[str, Any] = {
            "version": now.version,
            "partitions": now.partitions,
            "logs": self.config.partitions,
            "since_offset": now.since_offset,
            "moved_keys": now.moved_keys,
            "adopting_for": now.adopting_for,
            "adopting": {str(one.old_owner): one.end_offset for one in now.adopting},
        }
        if now.switches:
            picture["switches"] = [[one.version, one.partitions, one.offset] for one in now.switches]
        if now.plan is not None:
            picture["plan"] = dataclasses.asdict(now.plan)
        if self.view.last_move:
            picture["last_move"] = dict(self.view.last_move)
        return picture

    def _peer(self, peer: int) -> dict[str, Any]:
        link = self.replication.links[peer]
        refusal = link.refusal
        picture: dict[str, Any] = {
            "connected": link.connected,
            "outbox_bytes": link.outbox_bytes,
            "refused": None if refusal is None else {"code": refusal.code, "reason": str(refusal)},
        }
        if link.snapshot_bytes is not None:
            sent, total = link.snapshot_bytes
            picture |= {"snapshot_sent_bytes": sent, "snapshot_bytes": total}
        if self.core.leadership is not None:
            progress = self.core.leadership.progress[peer]
            conflict = self.core.leadership.conflicts.get(peer)
            picture |= {
                "state": progress.state.value,
                "match_index": progress.match_index,
                "next_index": progress.next_index,
                "inflight_bytes": progress.inflight_bytes,
                "heard": progress.silence_ms < self.config.raft.election_ms,
                "conflict": tell_conflict(self.core.me, conflict) if conflict is not None else None,
            }
        return picture


def this_process() -> Process:
    """As the system shows it."""
    return Process(os.getpid(), rss_bytes(), time.process_time())


def rss_bytes() -> int:
    """The resident memory of this process; 0 where the system does not tell."""
    try:
        fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
