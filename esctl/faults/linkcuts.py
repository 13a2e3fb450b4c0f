"""Real links that are cut for a while, where a backend has them: a watchdog mends them after the lease.

No node can mend its own link, and `esctl` may be gone by then. A note says what is under way; the kernel is
asked whether it is so. A cut is proved at once by datagrams of our own, sent the way that is cut: one that
arrives ends it all. Cuts with notes of their own may overlap. Called by `watchdog.py`, the survey,
and the faults, storms and drills of `esctl/chaos`.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from esctl.clusters import state
from esctl.clusters.backends import backend_named
from esctl.clusters.backends.interface import Links
from esctl.clusters.state import Cluster
from esctl.errors import NoEffect
from esctl.faults.leasestore import LeaseStore
from esctl.faults.nodeorders import FaultData, Order, belongs, block
from esctl.faults.partitionshapes import Cut
from esnode.errors import EventStreamError, OperationTimeout

_PLACE: Final = "cuts"


@dataclass(frozen=True, slots=True)
class LinkCuts:
    """Links that were cut by one command, until when (seconds since 1970)."""

    id: str
    cuts: tuple[Cut, ...]
    lease_ms: int
    until: float
    lost: int = 0
    """How many datagrams it has been proved by, a way."""

    def pictures(self) -> dict[int, list[FaultData]]:
        """By node, in the words of the nodes' own faults."""
        found: dict[int, list[FaultData]] = {}
        for order in block(self.cuts, self.id):
            found.setdefault(order.node, []).append(
                {
                    "id": order.id,
                    "kind": "cut",
                    "peers": list(order.peers),
                    "direction": order.direction,
                    "parameters": {},
                    "lease_ms": self.lease_ms,
                    "left_ms": max(0, round((self.until - time.time()) * 1000)),
                    "hits": 0 if order.direction == "in" else self.lost * len(order.peers),
                }
            )
        return found


def _read(fields: Mapping[str, Any]) -> LinkCuts:
    return LinkCuts(**{**fields, "cuts": tuple((int(a), int(b)) for a, b in fields["cuts"])})


STORE: Final = LeaseStore(_PLACE, _read)


def links_of(cluster: Cluster) -> Links | None:
    """The real links of a cluster, if its backend has them."""
    return backend_named(cluster.backend).links


def cuts_of(orders: Iterable[Order]) -> tuple[Cut, ...]:
    """What the orders of kind `block` cut."""
    found: set[Cut] = set()
    for order in orders:
        if order.kind == "block" and order.direction in ("both", "out"):
            found |= {(order.node, peer) for peer in order.peers}
        if order.kind == "block" and order.direction in ("both", "in"):
            found |= {(peer, order.node) for peer in order.peers}
    return tuple(sorted(found))


def begin(cluster: Cluster, fault: str, cuts: Sequence[Cut], lease_ms: int) -> LinkCuts:
    """Leave the note and start the watchdog; then `strike`. Raises `MachineRefused`."""
    link_cuts = LinkCuts(fault, tuple(cuts), lease_ms, time.time() + lease_ms / 1000)
    STORE.begin(cluster, [link_cuts])
    return link_cuts


def strike(cluster: Cluster, link_cuts: LinkCuts) -> None:
    """Cut the links, unless the lease is over: then nobody would mend them any more.

    Raises `OperationTimeout`, `NetworkRefused`; nothing is cut then.
    """
    with _locked(cluster):
        if not STORE.has(cluster, link_cuts.id):
            raise OperationTimeout(
                f"the lease of {link_cuts.lease_ms} ms was over before the links were cut; nothing was done",
                next_step="take a longer --lease",
                definite=True,
            )
        try:
            _links(cluster).cut(cluster, link_cuts.cuts)
        except EventStreamError:
            _end(cluster, link_cuts)
            raise


def prove(cluster: Cluster, link_cuts: LinkCuts) -> LinkCuts:
    """Send something over every link that was cut, at the same time. With what was lost, or raises `NoEffect`
    when something arrives: all of it is mended then."""
    from concurrent.futures import ThreadPoolExecutor  # loaded late: `esctl status` must be quick

    links = _links(cluster)
    with ThreadPoolExecutor(len(link_cuts.cuts)) as threads:
        carried = list(threads.map(lambda cut: links.carries(cluster, *cut), link_cuts.cuts))
    if any(carried):
        source, to = link_cuts.cuts[carried.index(True)]
        end(cluster, link_cuts)
        raise NoEffect(f"what node {source} sends still reaches node {to}; the links are restored")
    proved = replace(link_cuts, lost=1)
    with _locked(cluster):
        if STORE.has(cluster, link_cuts.id):
            STORE.put(cluster, proved)
    return proved


def active(cluster: Cluster) -> list[LinkCuts]:
    """Those that are under way. Raises `NetworkRefused`."""
    links = links_of(cluster)
    notes = STORE.all(cluster) if links is not None else []
    if links is None or not notes:
        return []
    there = links.cuts(cluster)
    return [one for one in notes if there.issuperset(one.cuts)]


def pictures(cluster: Cluster) -> dict[int, list[FaultData]]:
    """Those that are under way, by node."""
    found: dict[int, list[FaultData]] = {}
    for one in active(cluster):
        for number, told in one.pictures().items():
            found.setdefault(number, []).extend(told)
    return found


def heal(cluster: Cluster, ids: Collection[str] = ()) -> list[LinkCuts]:
    """Mend those that belong to these ids, or with none every link of the cluster; what was mended.

    Raises `NetworkRefused`.
    """
    links = links_of(cluster)
    if links is None:
        return []
    ended = [one for one in active(cluster) if not ids or any(belongs(one.id, to) for to in ids)]
    for one in ended:
        end(cluster, one)
    if not ids:
        links.mend(cluster, links.cuts(cluster))  # those too of which there is no note
    return ended


def end(cluster: Cluster, link_cuts: LinkCuts) -> None:
    """Mend the links that no other note wants cut, if the note is still there. Raises `NetworkRefused`."""
    if STORE.has(cluster, link_cuts.id):
        with _locked(cluster):
            _end(cluster, link_cuts)


def _end(cluster: Cluster, link_cuts: LinkCuts) -> None:
    if STORE.has(cluster, link_cuts.id):
        wanted = {cut for one in STORE.all(cluster) if one.id != link_cuts.id for cut in one.cuts}
        _links(cluster).mend(cluster, set(link_cuts.cuts) - wanted)
        STORE.remove(cluster, link_cuts.id)


def _links(cluster: Cluster) -> Links:
    links = links_of(cluster)
    assert links is not None, "links are cut only where there are some"
    return links


def _locked(cluster: Cluster) -> Any:
    """One process at a time changes links; nodes may be started and stopped meanwhile."""
    return state.locked(f"{cluster.name}/{_PLACE}", lambda _: None)
