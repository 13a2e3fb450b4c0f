"""What must hold over all partitions: each event in one of them, once; and the ring as the logs say.

Beside the rules of one group, which hold in each (`../invariants.py`). It shares the ring with the node, and
counts on its own which log would still know an event. Called by the hosts, through the invariants of their
group.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from esnode.config import Dedup
from esnode.dedup.batch import OffsetRange, split_keys
from esnode.dedup.ownership import Adoption, RingChange, RingPlan, RingSwitch, ring_of
from esnode.raft.entry import Entry, EntryKind
from esnode.raft.messages import Role, Write
from esnode.ring import TOKEN_BYTES, token_of
from tests.simulation.invariants import Invariants, demand

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.process import Process


@dataclass(frozen=True, slots=True)
class Known:
    """An event that some client has made."""

    number: int
    source: int
    alone: bool
    """Only one client ever sends it."""
    ordered: bool


@dataclass(frozen=True, slots=True)
class End:
    """Where the committed log of a group ends at some moment."""

    offset: int
    log_time_ms: int


def source_name(source: int) -> str:
    """The name of this source."""
    return f"source-{source}"


@lru_cache(4096)
def token_of_source(source: int) -> int:
    """The token of this source."""
    return int.from_bytes(token_of(source_name(source)))


class GroupInvariants(Invariants):
    """Those of one group, which is a partition."""

    def __init__(
        self,
        hosts: Mapping[int, "Host"],
        dedup: Dedup,
        counts: Counter[str],
        *,
        partition: int,
        over_all: "RingInvariants",
    ) -> None:
        super().__init__(hosts, dedup, counts)
        self.partition = partition
        self.version, self.partitions = 1, 1
        self.since_offset = 0
        self.adopted_from: dict[int, int] = {}
        """For each version of the ring, this group's offset at which its adoptions begin."""
        self.adopted_to: dict[tuple[int, int], int] = {}
        """By version and old owner."""
        self.all_keys: list[bytes] = []
        """By offset, adopted ones, too: in `key_at` these are none."""
        self._over_all = over_all
        self._ownership: dict[int, bytes] = {}

    def end(self) -> End:
        """Where the committed log ends."""
        return End(len(self.key_at), self.committed[-1].log_time_ms if self.committed else 0)

    def began(self, version: int) -> int:
        """The offset from which on keys are there that this group has for the ring of this version."""
        return self.adopted_from.get(version, len(self.key_at))

    def may_know(self, key: bytes, since_offset: int, at: End) -> bool | None:
        """Whether the key, of `since_offset` or later, must be known at a moment; None: it was not there."""
        seen = self._last_seen.get(key)
        if seen is None or not since_offset <= seen < at.offset:
            return None
        return not self._is_over(at.log_time_ms - self._log_time_at[seen], at.offset - seen)

    def wrote(self, host: "Host", write: Write) -> None:
        """As for one group; what a leader says of the ring is told."""
        super().wrote(host, write)
        process = host.process
        assert process is not None
        if process.core.role is Role.LEADER and self._over_all.appended is not None:
            for entry in write.entries:
                if entry.ring_change is not None:
                    self._over_all.appended(self.partition, host, entry.ring_change)

    def _appended_once(self, entry: Entry) -> None:
        if entry.kind is not EntryKind.ADOPTION:
            super()._appended_once(entry)
            return
        known = self._appended.setdefault(entry.term, {})
        for place, key in enumerate(split_keys(entry.keys)):
            known[key] = (entry.base_offset + place, entry.log_time_ms)

    def _note_keys(self, entry: Entry) -> None:
        change = entry.ring_change
        if change is not None:
            self._over_all.changes(self, entry, change)
        elif entry.count:
            self._over_all.stored(self, entry)
        keys = split_keys(entry.keys)
        self.all_keys += keys
        if not isinstance(change, Adoption):
            super()._note_keys(entry)
            return
        for place, key in enumerate(keys):
            self._last_seen[key] = entry.base_offset + place
            self.key_at.append(b"")
            self._log_time_at.append(entry.log_time_ms)

    def _agree_on_state(self, host: "Host", process: "Process") -> None:
        super()._agree_on_state(host, process)
        index = process.machine.applied_index
        said = process.machine.ring.now.dump()
        same = self._ownership.setdefault(index, said) == said
        demand(same, "equal rings", f"node {host.id} of partition {self.partition} at {index}")

    def acked(self, host: "Host", keys: bytes, ranges: tuple[OffsetRange, ...]) -> None:
        """As for one group; what is known without its offset is an event of some partition."""
        super().acked(host, keys, ranges)
        for key in split_keys(keys):
            demand(key in self._over_all.places, "acked is committed", "what is acked is in no partition")

    def demand_forgotten(self, floor: int) -> None:
        """What is before `floor` may be forgotten by now."""
        end = self.end()
        is_over = not floor or self._is_over(
            end.log_time_ms - self._log_time_at[floor - 1], end.offset - (floor - 1)
        )
        demand(is_over, "adopted keys", f"partition {self.partition} has a floor of {floor} at {end}")


class RingInvariants:
    """The memory of all groups together."""

    def __init__(self, counts: Counter[str]) -> None:
        self.groups: Sequence[GroupInvariants] = ()
        self.appended: Callable[[int, Host, RingChange], None] | None = None
        """Is told what a leader's log says of the ring, as soon as it does."""
        self.known: dict[bytes, Known] = {}
        self.places: dict[bytes, tuple[int, int]] = {}
        """Partition and offset at which an event was committed last."""
        self.plans: list[RingPlan] = []
        self._partitions_of: dict[int, int] = {1: 1}
        """How many partitions the ring of each version has."""
        self._ends: dict[tuple[int, int], list[End]] = {}
        """Where all logs ended when a partition switched to a version."""
        self._numbers: dict[int, int] = {}
        """The last number of each source, where it is sent in order."""
        self._counts = counts

    def owner(self, version: int, token: int) -> int:
        """The partition that owns a token under the ring of this version."""
        return ring_of(version, self._partitions_of[version]).owner(token)

    # --- the ring --------------------------------------------------------------------------------

    def changes(self, group: GroupInvariants, entry: Entry, change: RingChange) -> None:
        """A group has committed something about the ring."""
        self._counts[f"ring.{type(change).__name__}"] += 1
        if isinstance(change, RingPlan):
            self._planned(group, change)
        elif isinstance(change, RingSwitch):
            self._switched(group, entry, change)
        else:
            self._adopted(group, entry, change)

    def _planned(self, group: GroupInvariants, plan: RingPlan) -> None:
        demand(not group.partition, "plans", f"partition {group.partition} has a plan")
        if plan.ended:
            demand(self.plans[-1] == replace(plan, ended=False), "plans", f"{plan} ends {self.plans[-1]}")
            for each in self.groups[: max(plan.partitions, plan.old_partitions)]:
                done = each.version == plan.version
                demand(done, "plans", f"{plan}, and partition {each.partition} is at {each.version}")
        else:
            before = self.plans[-1].ended if self.plans else True
            demand(before, "plans", f"{plan} follows {self.plans[-1:]}")
            self._partitions_of[plan.version] = plan.partitions
        self.plans.append(plan)

    def _switched(self, group: GroupInvariants, entry: Entry, switch: RingSwitch) -> None:
        plan = self.plans[-1]
        planned = (plan.version, plan.partitions) == (switch.version, switch.partitions) and not plan.ended
        demand(planned, "plans", f"partition {group.partition} switches to {switch}; the plan is {plan}")
        grows = plan.partitions > plan.old_partitions
        if (group.partition >= plan.old_partitions) if grows else (group.partition < plan.partitions):
            for loser in self.groups[: plan.old_partitions]:
                if not grows and loser.partition < plan.partitions:
                    continue
                end = group.adopted_to.get((plan.version, loser.partition), -1)
                ready = loser.version == plan.version and end >= loser.since_offset
                demand(
                    ready, "opened when all is adopted", f"{group.partition} has {end} of {loser.partition}"
                )
        group.version, group.partitions = switch.version, switch.partitions
        group.since_offset = entry.base_offset
        group.adopted_from.setdefault(switch.version, entry.base_offset)
        self._ends[switch.version, group.partition] = [each.end() for each in self.groups]

    def _adopted(self, group: GroupInvariants, entry: Entry, change: Adoption) -> None:
        old = self.groups[change.old_owner]
        there = change.end_offset <= len(old.all_keys)
        demand(there, "adopted keys", f"{change}, and the old log ends at {len(old.all_keys)}")
        old.demand_forgotten(change.floor)
        ring = ring_of(change.version, self._partitions_of[change.version])
        old_keys = old.all_keys[max(change.first_offset, change.floor) : change.end_offset]
        wanted = [key for key in old_keys if ring.owner(int.from_bytes(key[:TOKEN_BYTES])) == group.partition]
        same = entry.keys == b"".join(wanted)
        demand(same, "adopted keys", f"partition {group.partition}: {entry.count} keys, not {len(wanted)}")
        group.adopted_from.setdefault(change.version, entry.base_offset)
        group.adopted_to[change.version, change.old_owner] = change.end_offset
        self._counts["ring.adopted keys"] += entry.count

    # --- events ----------------------------------------------------------------------------------

    def stored(self, group: GroupInvariants, entry: Entry) -> None:
        """A group commits events; what it knew before is as it was before them."""
        for place, key in enumerate(split_keys(entry.keys)):
            event, offset = self.known[key], entry.base_offset + place
            owner = self.owner(group.version, token_of_source(event.source))
            text = f"partition {group.partition} stores an event of partition {owner} at {offset}"
            demand(owner == group.partition, "owned", text)
            before = self.places.get(key)
            if before is None:
                self._in_order(event)
            else:
                self._may_be_again(group, key, event, before, End(offset, entry.log_time_ms))
            self.places[key] = (group.partition, offset)

    def _in_order(self, event: Known) -> None:
        if event.ordered:
            last = self._numbers.get(event.source, -1)
            demand(event.number > last, "order of a source", f"{event} comes after {last}")
            self._numbers[event.source] = event.number

    def _may_be_again(
        self, group: GroupInvariants, key: bytes, event: Known, before: tuple[int, int], at: End
    ) -> None:
        where = f"partition {before[0]} at {before[1]}, again in partition {group.partition} at {at.offset}"
        demand(not event.alone, "exactly once", f"an event that one client sends is in {where}")
        ends = [each.end() for each in self.groups]
        ends[group.partition] = at
        knows = self._must_know(key, token_of_source(event.source), group.version, ends)
        demand(not knows, "exactly once over partitions", f"an event is in {where}")
        self._counts["ring.again after its window"] += before[0] != group.partition

    def _must_know(self, key: bytes, token: int, version: int, at: Sequence[End]) -> bool:
        """Whether the owner of a token under a ring must have known the key when the logs ended there.

        What it did not get itself since it owns the token, its owner before must have known when it switched.
        """
        owner = self.owner(version, token)
        if version == 1:
            return bool(self.groups[owner].may_know(key, 0, at[owner]))
        before = self.owner(version - 1, token)
        if before == owner:
            return self._must_know(key, token, version - 1, at)
        group = self.groups[owner]
        known = group.may_know(key, group.began(version), at[owner])
        if known is not None:
            return known
        return self._must_know(key, token, version - 1, self._ends[version, owner])
