"""What befalls a world, one method a kind of fault, each counted when it has really hit.

Partitions end by themselves; so do pauses, full disks and slow ones. A crash is followed by a start. No
fault damages what a majority needs: at most a minority of the disks is not to be trusted at any time.
"""

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from esnode.raft.messages import Transfer
from esnode.storage.interface import Distrust
from esnode.storage.memory import DiskImage

from .host import BOUNDARIES, Host
from .hunt import Hunt
from .schedule import MS, SECOND
from .tape import Fault

if TYPE_CHECKING:
    from .group import Group

FLAPS: Final = 6
FOR_EVER_NS: Final = 1 << 60
DRAG_NS: Final = 2 * SECOND
"""What each sync of a disk takes that drags."""


class Faults:
    """The hand that does it."""

    def __init__(self, world: "Group") -> None:
        self._world = world

    def befall(self, fault: Fault) -> None:
        """Let it happen."""
        fault = self._aimed(fault)
        host = self._world.hosts[fault.node]
        hit = getattr(self, f"_{fault.kind}")(fault, host)
        self._world.counts[f"fault.{fault.kind}"] += hit
        what = f"{fault.kind} {fault.node} {fault.other} {fault.for_ns // MS} ms"
        self._world.trace.note(self._world.schedule.now_ns, "!", what)

    def _aimed(self, fault: Fault) -> Fault:
        """At the leader, for a share of the faults."""
        leader = self._world.leader()
        if leader is None or random.Random(f"{fault.salt}:aim").random() >= self._world.weather.aim:
            return fault
        return replace(fault, node=leader)

    def trouble(self, kind: str, host: Host, other: int) -> None:
        """One node is in trouble from now on, until it is healed."""
        others = [voter for voter in self._world.voters if voter != host.id]
        out, back = [(host.id, each) for each in others], [(each, host.id) for each in others]
        match kind:
            case "down":
                host.end(heard=True, torn=None)
            case "isolate":
                self._world.network.sever(out + back, FOR_EVER_NS)
            case "deaf":
                self._world.network.sever(back, FOR_EVER_NS)
            case "mute":
                self._world.network.sever(out, FOR_EVER_NS)
            case "drag":
                host.drags_ns = DRAG_NS
            case "bridge":
                self._world.network.sever([(host.id, other), (other, host.id)], FOR_EVER_NS)

    def heal(self, host: Host) -> None:
        """What still lasts on this host ends; a damage that nobody has met is met by the next process."""
        host.armed = ""
        host.slow_until_ns = host.drags_ns = 0
        host.disk.capacity_bytes = None
        host.disk.fail_write(after=1 << 60)
        if host.paused:
            host.resume()
        if host.distrusted and host.process is not None and not host.process.core.rejoining:
            host.end(heard=True, torn=None)

    # --- processes and machines ------------------------------------------------------------------

    def _crash(self, fault: Fault, host: Host) -> bool:
        return self._end(host, fault, heard=True, torn=None)

    def _power_cut(self, fault: Fault, host: Host) -> bool:
        if fault.salt % 2:
            host.armed = "syncing"  # an idle disk has nothing to lose
            return False
        return self._end(host, fault, heard=False, torn=random.Random(fault.salt))

    def _crash_all(self, fault: Fault, host: Host) -> bool:
        torn = random.Random(fault.salt)
        ended = [self._end(each, fault, heard=True, torn=torn) for each in self._world.hosts.values()]
        return all(ended)

    def _crash_at(self, fault: Fault, host: Host) -> bool:
        host.armed = BOUNDARIES[fault.salt % len(BOUNDARIES)]
        return False  # it counts when the process comes by

    def _end(self, host: Host, fault: Fault, *, heard: bool, torn: random.Random | None) -> bool:
        if not host.up:
            return False
        host.end(heard=heard, torn=torn)
        self._world.restart_later(host, fault.for_ns)
        return True

    def _pause(self, fault: Fault, host: Host) -> bool:
        if not host.up or host.paused:
            return False
        host.pause()
        self._world.schedule.after(fault.for_ns, self._resume, host, host.life)
        return True

    def _resume(self, host: Host, life: int) -> None:
        if host.life == life and host.up and host.paused:
            host.resume()

    def _clock_jump(self, fault: Fault, host: Host) -> bool:
        host.pass_time(fault.for_ns)
        return host.up

    def _hunt(self, fault: Fault, host: Host) -> bool:
        hunt = Hunt(self._world, fault)
        self._world.hunts.append(hunt)
        hunt.look()
        return True

    # --- the network -----------------------------------------------------------------------------

    def _isolate(self, fault: Fault, host: Host) -> bool:
        return self._cut([{fault.node}, set(self._world.voters) - {fault.node}], fault.for_ns)

    def _split(self, fault: Fault, host: Host) -> bool:
        source = random.Random(fault.salt)
        side = set(source.sample(self._world.voters, source.randint(1, len(self._world.voters))))
        return self._cut([side, set(self._world.voters) - side], fault.for_ns)

    def _bridge(self, fault: Fault, host: Host) -> bool:
        """Two do not see each other; everybody else sees both."""
        return self._cut([{fault.node}, {fault.other}], fault.for_ns)

    def _one_way(self, fault: Fault, host: Host) -> bool:
        """The node can send and hears nobody, or hears everybody and cannot send."""
        others = [voter for voter in self._world.voters if voter != fault.node]
        out = [(fault.node, other) for other in others]
        back = [(other, fault.node) for other in others]
        self._world.network.sever(out if fault.salt % 2 else back, fault.for_ns)
        return bool(others)

    def _flap(self, fault: Fault, host: Host) -> bool:
        for turn in range(FLAPS):
            sides = [{fault.node}, set(self._world.voters) - {fault.node}]
            delay_ns = 2 * turn * fault.for_ns // FLAPS
            self._world.schedule.after(delay_ns, self._cut_once_more, sides, fault.for_ns // FLAPS)
        return len(self._world.voters) > 1

    def _cut_once_more(self, sides: list[set[int]], for_ns: int) -> None:
        if not self._world.is_calm:
            self._cut(sides, for_ns)

    def _cut(self, sides: list[set[int]], for_ns: int) -> bool:
        """Nobody on one side hears the other one."""
        one, other = (sorted(side) for side in sides)
        pairs = [pair for a in one for b in other if a != b for pair in ((a, b), (b, a))]
        self._world.network.sever(pairs, for_ns)
        return bool(pairs)

    def _clog(self, fault: Fault, host: Host) -> bool:
        if fault.node == fault.other:
            return False
        self._world.network.clog(fault.node, fault.other, fault.for_ns)
        return True

    def _reset(self, fault: Fault, host: Host) -> bool:
        if fault.node == fault.other:
            return False
        there = self._world.network.reset(fault.node, fault.other)
        return self._world.network.reset(fault.other, fault.node) or there

    def _silent_loss(self, fault: Fault, host: Host) -> bool:
        """What one node sends another is lost, and neither is told; its prefix may be cut meanwhile."""
        source = random.Random(fault.salt)
        leader = self._world.leader()
        if leader is not None and source.random() < 0.8:
            host = self._world.hosts[leader]
        if host.id == fault.other:
            return False
        self._world.network.lose(host.id, fault.other, fault.for_ns)
        if source.random() < 0.5:
            cut_after_ns = int(fault.for_ns * source.uniform(0.3, 1.0))
            self._world.schedule.after(cut_after_ns, host.cut_prefix, 1.0)
        return True

    # --- disks -----------------------------------------------------------------------------------

    def _slow_disk(self, fault: Fault, host: Host) -> bool:
        host.slow_until_ns = self._world.schedule.now_ns + fault.for_ns
        return True

    def _failed_sync(self, fault: Fault, host: Host) -> bool:
        host.disk.fail_write(after=fault.salt % 3)
        return False  # it counts when a sync fails

    def _full_disk(self, fault: Fault, host: Host) -> bool:
        host.disk.capacity_bytes = len(host.disk.cache) + fault.salt % 10_000
        self._world.schedule.after(fault.for_ns, self._make_room, host)
        return False  # it counts when a write is refused

    def _make_room(self, host: Host) -> None:
        host.disk.capacity_bytes = None

    # --- disks that are not to be believed any more ----------------------------------------------

    def _wipe(self, fault: Fault, host: Host) -> bool:
        """An empty disk in place of the old one; the other nodes tell it that they know another."""
        if not self._distrust(host):
            return False
        self._end(host, fault, heard=True, torn=None)
        host.disk.wipe()
        host.disk.begin_rejoin(Distrust.DAMAGE)
        host.exchanged = True
        return True

    def _old_copy(self, fault: Fault, host: Host) -> bool:
        """A copy is taken now, and put in place of the disk some time later; or back over its very files."""
        self._world.schedule.after(fault.for_ns, self._put_back, fault, host, host.disk.image())
        return len(self._world.voters) > 1

    def _put_back(self, fault: Fault, host: Host, image: DiskImage) -> None:
        if self._world.is_calm or not self._distrust(host):
            return
        self._end(host, fault, heard=True, torn=None)
        in_place = fault.salt % 2 == 0
        host.disk.restore(image, in_place=in_place)
        host.exchanged = True
        self._world.counts[f"fault.old_copy put back{' in place' if in_place else ''}"] += 1

    def _bit_flip(self, fault: Fault, host: Host) -> bool:
        """A bit turns over; the process ends soon, and the next one reads everything, sooner or later."""
        if host.disk.checkpoints.size_bytes and fault.salt % 3 == 0:  # it costs time, and nothing else
            host.disk.checkpoints.flip_bit(random.Random(fault.salt))
            self._world.counts["fault.bit_flip in a checkpoint"] += 1
            self._world.schedule.after(fault.for_ns, self._end_after_flip, fault, host, host.life)
            return True
        if not host.disk.synced or not self._distrust(host):
            return False
        source = random.Random(fault.salt)
        if host.disk.has_snapshot and source.random() < 0.3:
            host.disk.flip_bit_of_snapshot(source)
        else:
            host.disk.flip_bit(source)
        self._world.schedule.after(fault.for_ns, self._end_after_flip, fault, host, host.life)
        return True

    def _end_after_flip(self, fault: Fault, host: Host, life: int) -> None:
        if host.life == life and not self._world.is_calm:
            self._end(host, fault, heard=True, torn=None)

    def _distrust(self, host: Host) -> bool:
        """Whether one more disk may be lost: a majority stays sound, and this one was."""
        lost = sum(each.distrusted for each in self._world.hosts.values())
        if host.distrusted or 2 * (lost + 1) >= len(self._world.voters):
            return False
        host.distrusted = True
        host.losses += 1
        return True

    # --- what an operator does -------------------------------------------------------------------

    def _transfer(self, fault: Fault, host: Host) -> bool:
        leader = self._world.leader()
        if leader is None:
            return False
        self._world.hosts[leader].hear(Transfer(fault.other if fault.salt % 2 else None))
        return True

    def _cut_prefix(self, fault: Fault, host: Host) -> bool:
        return host.cut_prefix(random.Random(fault.salt).choice((0.3, 0.7, 1.0)))
