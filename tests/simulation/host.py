"""One machine of tier A: a disk that outlives its processes, and a process that is the node but for trio.

The core, the driver, the machine, the log's storage, the waiting requests and the recovery are those that
ship. What the node does in tasks of trio is done here by the schedule: a turn of the driver soon after
something arrived, a commit after the disk's time, ticks and beats of a clock that may go wrong.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from esnode import limits
from esnode.apply import Machine
from esnode.errors import (
    Bug,
    CopiedDirectory,
    DamagedRecord,
    EventStreamError,
    HistoryConflict,
    OlderDirectory,
    StorageFailed,
)
from esnode.raft.messages import (
    Beat,
    Decision,
    Fetch,
    Fetched,
    Input,
    InstallSnapshot,
    OpenProducer,
    PeerMessage,
    PrefixCut,
    Propose,
    ProposeRing,
    ReadGrant,
    ReadIndex,
    Role,
    SendSnapshot,
    Snapshot,
    SoftState,
    Tick,
)
from esnode.storage.interface import Distrust, Identity, pages
from esnode.storage.memory import MemoryDisk, MemoryStorage

from .diskqueue import cause_of
from .outcome import Violation
from .process import Process
from .schedule import MS, between

if TYPE_CHECKING:
    from .group import Group

FINE_TICK_MS: Final = 5
FINE_TICKS: Final = 60
"""Fine ticks in a row while nobody leads; then the ordinary ones do."""
TURN_NS: Final = (10_000, 300_000)
"""How long the driver takes to get to its inbox."""
BOUNDARIES: Final = ("writing", "syncing", "synced", "sending", "applied")


class Crashed(Exception):
    """The process has just ended, in the middle of something."""


_CAUSES: Final[dict[type[EventStreamError], Distrust]] = {
    DamagedRecord: Distrust.DAMAGE,
    CopiedDirectory: Distrust.COPY,
    OlderDirectory: Distrust.OLDER,
}


class Host:
    """A machine, and the process on it, if one runs."""

    def __init__(self, node_id: int, world: "Group") -> None:
        self.id = node_id
        self.world = world
        self.disk = MemoryDisk()
        self.life = 0
        self.process: Process | None = None
        self.paused = False
        self.armed = ""
        """The boundary at which the process will crash next time."""
        self.slow_until_ns = 0
        self.drags_ns = 0
        """No sync takes less."""
        self.distrusted = False
        """Its disk is damaged, old or empty, or it has not rejoined yet."""
        self.exchanged = False
        """The disk does not hold what it held when the last process ended."""
        self.rejoins = False
        """It comes back with a lost disk, until the disk has said durably that it has."""
        self.losses = 0
        """How often its disk was damaged, exchanged or emptied."""
        self.damage: DamagedRecord | None = None
        """What the last process has met, and has ended by."""
        self._backlog: list[Callable[[], object]] = []
        self._awake = False
        self._told: tuple[Role, int, int, int, int] | None = None
        self._seen: tuple[Role, int, int, int, int, int] | None = None
        """What the invariants have looked at last in this life."""
        self._waiting_ms = 0
        self._waiting_ticks = 0
        """Of the ticks at the head of the inbox that wait for a turn which has something else to do."""
        self._carried_ns = 0
        self._ticked_ns = 0
        self._fine_ticks = 0
        self._random = random.Random(f"{world.seed}:host:{node_id}")
        drift = world.weather.drift
        self._pace = 1 + self._random.uniform(-drift, drift)

    @property
    def up(self) -> bool:
        """Whether a process runs here, paused or not."""
        return self.process is not None

    # --- its life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin a process on what the disk holds."""
        assert self.process is None
        self.life += 1
        schedule, weather = self.world.schedule, self.world.weather
        self.process = self._open()
        self.paused = False
        self._awake = False
        self._backlog.clear()
        self._seen = None
        self._waiting_ms = self._waiting_ticks = 0
        self._ticked_ns, self._carried_ns = schedule.now_ns, 0
        core = self.process.core
        self.note(f"starts in term {core.term}, log to {core.log.last_index}")
        self.world.invariants.started(self)
        schedule.after(between(self._random, (0, weather.tick_ms * MS)), self._tick, self.life)
        schedule.after(between(self._random, (0, weather.timers.heartbeat_ms * MS)), self._beat, self.life)
        self.process.upkeep.begin(self.process.unread_to)
        self.world.network.started(self.id)

    def _open(self) -> Process:
        """As `esnode/upkeep/repair.py`: a disk that is not to be believed begins to rejoin."""
        try:
            if self.damage is not None:
                met, self.damage = self.damage, None
                raise met
            storage = MemoryStorage(self.disk, Identity("simulation", self.id))
            found = storage.recover()
            if self.exchanged:
                self.world.invariants.lost(self, found)
            else:
                self.world.invariants.recovered(self, found)
            process = Process(self, storage)
        except (DamagedRecord, CopiedDirectory, OlderDirectory) as error:
            if not self.distrusted:
                raise Violation(
                    "durability", f"node {self.id} finds damage that nobody did: {error}"
                ) from error
            self.note(f"rejoins: {error}")
            self.world.counts[f"node.found {type(error).__name__}"] += 1
            self.disk.crash()
            self.disk.begin_rejoin(_CAUSES[type(error)])
            self.exchanged = True
            return self._open()
        self.exchanged = False
        self.rejoins = process.core.rejoining
        self.distrusted = self.rejoins or (self.distrusted and process.unread_to > 0)
        return process

    def end(self, *, heard: bool, torn: random.Random | None) -> None:
        """End the process; `torn`: the machine loses power, and what is not synced is torn by it."""
        self.note("ends")
        assert self.process is not None
        if torn is None:  # what is in the cache outlives a process
            self.process.disk.storage.end_process()
        else:
            self.disk.crash(torn)
        self.process = None
        self.armed = ""
        self.world.leader_may_have_changed()
        self.world.network.ended(self.id, heard=heard)

    def guard(self, call: Callable[[], None]) -> None:
        """Let the process do something; what ends a node ends it, what is a bug ends the run."""
        try:
            call()
        except Crashed:
            self.world.counts["fault.crash_at"] += 1
        except (StorageFailed, DamagedRecord) as error:
            self.note(f"fails: {error}")
            self.world.counts[cause_of(error)] += 1
            self.damage = error if isinstance(error, DamagedRecord) else None
            if self.up:
                self.end(heard=True, torn=None)
            self.world.restart_later(self)
        except Violation:
            raise
        except HistoryConflict as error:
            raise Violation("one history", f"node {self.id} ends: {error}") from error
        except (AssertionError, Bug) as error:
            raise Violation("assertion", f"node {self.id}: {error!r}") from error

    def passes(self, boundary: str) -> None:
        """The process comes by a place where it may be meant to end."""
        if self.armed == boundary and (boundary != "sending" or self._random.random() < 0.5):
            self.end(heard=self._random.random() < 0.5, torn=self._random)
            self.world.restart_later(self)
            raise Crashed

    # --- time ------------------------------------------------------------------------------------

    def _local(self, duration_ns: int) -> int:
        return int(duration_ns * self._pace)

    def _tick(self, life: int) -> None:
        """As `esnode/loop/clocks.py`: what has passed goes to the core, in whole milliseconds."""
        if life != self.life or self.process is None:
            return
        leaderless = self.process.view.soft_state.leader is None
        self._fine_ticks = self._fine_ticks + 1 if leaderless else 0
        fine = leaderless and self._fine_ticks < FINE_TICKS
        weather = self.world.weather
        wait_ms = FINE_TICK_MS if fine else weather.tick_ms
        if leaderless:  # coarser than the jitter, ticks would make candidates of all at the same moment
            wait_ms = min(wait_ms, max(FINE_TICK_MS, weather.timers.jitter_ms // 4))
        self.world.schedule.after(self._local(wait_ms * MS), self._tick, life)
        if not self.paused:
            now_ns = self.world.schedule.now_ns
            self._carried_ns += int((now_ns - self._ticked_ns) / self._pace)
            self._ticked_ns = now_ns
            passed_ms = self.pass_time(0)
            if not self._awake and not self._may_wait(self.process, passed_ms):
                self._turn(life)

    def _may_wait(self, process: Process, passed_ms: int) -> bool:
        """Whether the tick just left would move nothing but the election timer, and not to its end.

        It then waits in the inbox, in its place, and costs no turn: the core takes it with whatever comes
        next, or with the tick that ends the timer, and is then where a turn for each had brought it.
        """
        core = process.core
        others = len(process.inbox) - self._waiting_ticks - (passed_ms > 0)
        if core.leadership is not None or others or self._seen is None:
            return False
        waiting_ms = self._waiting_ms + passed_ms
        if core._timer.silence_ms + waiting_ms >= core._timer._timeout_ms:
            return False
        self._waiting_ms = waiting_ms
        self._waiting_ticks = len(process.inbox)
        return True

    def pass_time(self, jump_ns: int) -> int:
        """Tell the process how much time has passed, and `jump_ns` more; returns it in whole ms."""
        self._carried_ns += jump_ns
        whole_ms = self._carried_ns // MS
        if whole_ms and self.process is not None:
            self._carried_ns -= whole_ms * MS
            self.process.inbox.leave(Tick(whole_ms))
        return whole_ms

    def _beat(self, life: int) -> None:
        if life == self.life and self.process is not None:
            self.world.schedule.after(
                self._local(self.world.weather.timers.heartbeat_ms * MS), self._beat, life
            )
            if self.paused:
                return
            if self.process.view.leads or self.rejoins:
                self.process.inbox.put(Beat())
            elif len(self.process.inbox) != self._waiting_ticks:
                self.process.inbox.leave(
                    Beat()
                )  # the next turn takes it along; as its first, nobody minds it

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True

    def resume(self) -> None:
        """SIGCONT: everything that came meanwhile is there at once."""
        self.paused = False
        backlog, self._backlog = self._backlog, []
        # A request may end the process: the rest then finds nobody.
        for call in backlog:
            call()
        self.wake()

    def defer(self, call: Callable[[], None]) -> None:
        """Do it when the process goes on."""
        self._backlog.append(call)

    # --- turns -----------------------------------------------------------------------------------

    def hear(self, item: Input) -> None:
        """Something comes in from the network."""
        if self.process is not None:
            self.process.inbox.put(item)

    def wake(self) -> None:
        """The inbox has something: a turn comes soon."""
        if not self._awake and not self.paused:
            self._awake = True
            self.world.schedule.after(between(self._random, TURN_NS), self._turn, self.life)

    def _turn(self, life: int) -> None:
        if life != self.life or self.process is None:
            return
        self._awake = False
        if not self.paused:
            self.guard(self._drive)

    def _drive(self) -> None:
        process = self.process
        assert process is not None
        items = process.inbox.drain(limits.MAX_STEPS_A_ROUND)
        self._waiting_ms = self._waiting_ticks = 0
        core = process.core
        fetches = process.driver.turn(items)
        log = core.log
        seen = (core.role, core.term, log.last_index, log.committed, log.applied, process.machine.log_time_ms)
        changed = seen != self._seen
        if changed and (place := seen[:5]) != self._told:
            self._told = place
            self.note(f"{core.role.value} {core.term} {log.last_index} {log.committed} {log.applied}")
        for fetch in fetches:
            process.disk.call(partial(self._fetch, process, fetch))
        if core.leadership is not None and core.leadership.conflicts:
            raise Violation("one history", f"node {self.id} finds {core.leadership.conflicts}")
        if changed:  # all that `turned` looks at is in `seen`
            self.world.invariants.turned(self, process)
            self._seen = seen
        if self.rejoins and not (core.rejoining or self.disk.rejoining):
            self.rejoins = self.distrusted = False
            self.world.counts["node.rejoined"] += 1
        if len(process.inbox):
            self.wake()

    def _fetch(self, process: Process, fetch: Fetch) -> None:
        storage = process.disk.storage
        entries = storage.read(fetch.first_index, fetch.last_index, limits.MAX_FETCH_BYTES)
        process.inbox.put(Fetched(fetch, tuple(entries)))

    def describe(self) -> str:
        """Where it stands, for a failure's text."""
        process = self.process
        if process is None:
            return f"{self.id} down"
        core, log = process.core, process.core.log
        return (
            f"{self.id} {core.role.value} term {core.term} leader {core.leader} last {log.last_index}"
            f" committed {log.committed} applied {log.applied} durable {log.durable}"
        )

    def note(self, what: str) -> None:
        """Into the trace."""
        self.world.trace.note(self.world.schedule.now_ns, str(self.id), what)

    # --- what the driver calls: peers ------------------------------------------------------------

    def send(self, peer: int, message: PeerMessage) -> None:
        """A message leaves."""
        self.passes("sending")
        self.world.invariants.left(self, peer, message)
        self.world.network.send(self.id, peer, message)

    def send_snapshot(self, wanted: SendSnapshot) -> None:
        """The stored snapshot leaves once it is read."""
        process = self.process
        assert process is not None
        process.disk.call(partial(self._send_snapshot, process, wanted))

    async def fetch_keys(self, peer: int, snapshot: Snapshot) -> bool:
        """Snapshots have all their keys here: in `whole` nodes fetch them."""
        raise AssertionError("nobody drives a node for ever here")

    def _send_snapshot(self, process: Process, wanted: SendSnapshot) -> None:
        snapshot = process.disk.storage.load_snapshot()
        assert snapshot is not None, "a snapshot is to be sent, and there is none"
        self.world.counts["net.snapshot"] += 1
        self.world.network.send_snapshot(self.id, wanted.peer, InstallSnapshot(wanted.term, snapshot))

    # --- what the driver calls: clients ----------------------------------------------------------

    def on_soft_state(self, soft_state: SoftState) -> None:
        """As `Ingest.on_soft_state`."""
        process = self.process
        assert process is not None
        self.world.counts["raft.leader"] += soft_state.leader == self.id
        self.world.leader_may_have_changed()
        process.waiting.leadership_over()

    def on_decisions(self, decisions: Sequence[Decision]) -> None:
        """As `Ingest.on_decisions`."""
        process = self.process
        assert process is not None
        indexes = [one.wait_index for one in decisions if one.wait_index]
        self.world.counts["log.batches that share an entry"] += len(indexes) - len(set(indexes))
        process.waiting.decided(decisions, process.view.applied_index, process.view.leading_term)

    def on_read_grants(self, grants: Sequence[ReadGrant]) -> None:
        """As `Ingest.on_read_grants`."""
        process = self.process
        assert process is not None
        process.waiting.granted(grants)

    def on_applied(self, index: int) -> None:
        """As `Ingest.on_applied`; then reads that waited for it."""
        process = self.process
        assert process is not None
        self.world.invariants.turned(self, process)
        self.passes("applied")
        process.waiting.applied(index)
        due = [read for read in process.due_reads if read[0] <= index]
        process.due_reads = [read for read in process.due_reads if read[0] > index]
        for _, serve in due:
            serve()

    def on_ring(self) -> None:
        """As `Ingest.on_ring`; here clients learn of it when they are refused."""
        self.world.counts["ring.switched"] += 1

    # --- what clients ask ------------------------------------------------------------------------

    def ask(self, request: Callable[["Host"], None]) -> bool:
        """A client's request has arrived; False when nobody listens."""
        if self.process is None:
            return False
        if self.paused:
            self._backlog.append(partial(self.ask, request))
        else:
            self.guard(partial(request, self))
        return True

    def propose(
        self,
        proposal: Callable[[int], Propose | OpenProducer | ProposeRing],
        settle: Callable[[Decision], None],
    ) -> bool:
        """As `Session._propose`: to the core, if this node leads."""
        process = self.process
        assert process is not None
        if not process.view.leads:
            return False
        token = process.waiting.expect_decision(settle)
        process.inbox.offer(proposal(token))
        return True

    def read(self, answer: Callable[[ReadGrant, int], None]) -> None:
        """As `Session._wait_linearizable`, then the end of what is applied."""
        process = self.process
        assert process is not None

        def serve(grant: ReadGrant) -> None:
            answer(grant, process.view.next_offset)

        def granted(grant: ReadGrant) -> None:
            if grant.refusal is not None or grant.index <= process.view.applied_index:
                serve(grant)
            else:
                process.due_reads.append((grant.index, partial(serve, grant)))

        process.inbox.offer(ReadIndex(process.waiting.expect_grant(granted)))

    # --- retention -------------------------------------------------------------------------------

    def cut_prefix(self, share: float) -> bool:
        """As `esnode/upkeep/retention.py`: the snapshot of the prefix is rolled forward over what goes."""
        process = self.process
        if process is None:
            return False
        process.disk.call(partial(self._cut, process, share))
        return True

    def _cut(self, process: Process, share: float) -> None:
        storage = process.disk.storage
        prefix = Machine(self.world.weather.dedup, searchable=False)
        snapshot = storage.load_snapshot()
        if snapshot is not None:
            prefix.restore(snapshot)
        last_index = prefix.applied_index + int(share * (process.view.applied_index - prefix.applied_index))
        if last_index == prefix.applied_index:
            return
        for page in pages(storage, prefix.applied_index + 1, last_index, limits.MAX_FETCH_BYTES):
            for entry in page:
                prefix.apply(entry)
        cut = prefix.snapshot()
        storage.cut_prefix(cut)
        self.world.invariants.cut(self, cut)
        self.world.counts["fault.prefix cut"] += 1
        process.inbox.put(PrefixCut(cut.index))
        process.view.show_first_offset(cut.next_offset)

    # --- its disk --------------------------------------------------------------------------------

    def sync_time_ns(self) -> int:
        """How long the next sync takes."""
        left_ns = self.slow_until_ns - self.world.schedule.now_ns
        return max(left_ns, self.drags_ns, between(self._random, self.world.weather.sync_ns))
