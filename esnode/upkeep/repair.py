"""What a node does if it cannot trust its own disk: record that, begin to rejoin, and run again.

Decides which errors lead to that: a damaged record, at the start or later; a directory that is a copy, or an
older state; peers that know another directory of this node. A damaged index of keys is only made anew: the
log is as good as ever. Never repairs a disk that refuses a write or a sync. A second node that finds damage
while another is being repaired waits for a person. A cluster of one cannot rejoin: damage ends it, and it
accepts a copy or an older state as it is. The core decides how a node rejoins (`esnode/raft/rejoin.py`).
Called by `__main__` and by tests.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from esnode.errors import (
    CopiedDirectory,
    DamagedIndex,
    DamagedRecord,
    DistrustedDirectory,
    EventStreamError,
    InvalidConfig,
    OlderDirectory,
    UnknownDirectory,
    UnsafeRepair,
)
from esnode.storage.directory import WHY
from esnode.storage.interface import Distrust, Storage
from esnode.storage.place import Place

log = logging.getLogger(__name__)

AskOthers = Callable[[], Awaitable[list[int]]]
"""The other nodes that do not trust their disks."""
MAX_REPAIRS: Final = 3
"""A disk that damages what is fetched anew, again and again, is for the operator."""
REPAIRS_BACK_AFTER_S: Final = 24 * 3600.0
"""A node that has run for so long, and is sound, may make all its repairs again."""


_CAUSES: Final[dict[type[EventStreamError], Distrust]] = {
    CopiedDirectory: Distrust.COPY,
    UnknownDirectory: Distrust.PEERS,
    OlderDirectory: Distrust.OLDER,
    DamagedRecord: Distrust.DAMAGE,
}


class Repair:
    """One process's repairs of one node's place."""

    def __init__(self, place: Place, *, alone: bool, rejoin: bool = False, trust_copy: bool = False) -> None:
        """`alone`: the cluster has no other node.

        `rejoin` and `trust_copy` are what the operator says of the place, see `esnode --help`. Raises
        `InvalidConfig` for `rejoin` in a cluster of one.
        """
        if rejoin and alone:
            raise InvalidConfig(
                "a cluster of one node cannot rejoin: no other node has its log",
                next_step="start it without --rejoin",
            )
        self._place = place
        self._alone = alone
        self._rejoin = rejoin
        self._trust_copy = trust_copy
        self._left = MAX_REPAIRS
        self._opened: Storage | None = None

    def open(self) -> Storage:
        """Open the place, the first time as the operator wants it.

        Raises what `Place` does, and `DistrustedDirectory` in a cluster of one that has to rejoin.
        """
        if self._trust_copy:
            self._trust("the operator says so")
        if self._rejoin:
            self._begin(Distrust.OPERATOR, code="", reason="the operator says so")
        self._trust_copy = self._rejoin = False
        storage = self._opened = self._place.open()
        why = storage.distrust
        if not self._alone or why is None:
            return storage
        storage.close()
        if why is not Distrust.COPY:
            raise DistrustedDirectory(
                f"a cluster of one node cannot rejoin, and this one has to: {WHY[why]}",
                next_step="list its other members again, or put a copy of its directory back",
            )
        self._trust("it has begun to rejoin as a copy, and no other node has its log")
        return self._place.open()

    async def check_others(self, error: EventStreamError, unsound: AskOthers) -> None:
        """Ask whether a damaged log may be put aside; raises `UnsafeRepair` where a person has to decide.

        A node that rejoins already has put it aside, or its operator has said that it is not to be believed.
        """
        if self._alone or type(error) is not DamagedRecord or self._place.rejoins:
            return
        others = await unsound()
        if others:
            names = f"node {others[0]} is" if len(others) == 1 else f"nodes {', '.join(map(str, others))} are"
            raise UnsafeRepair(
                f"{error}; {names} not whole either: this log is kept as it is, and nothing was put aside"
            ) from error

    def after(self, error: EventStreamError, ran_s: float = 0.0) -> None:
        """Make the place fit to be opened again after a run of `ran_s` that ended with `error`.

        Raises an error like it where that cannot be.
        """
        sound = self._opened is not None and self._opened.distrust is None
        self._opened = None
        if sound and ran_s >= REPAIRS_BACK_AFTER_S:
            self._left = MAX_REPAIRS
        if isinstance(error, DamagedIndex) and self._left:
            self._left -= 1
            log.warning("index_discarded", extra={"code": error.code, "reason": str(error)})
            return
        if self._alone and isinstance(error, CopiedDirectory | OlderDirectory):
            self._trust(str(error), older=isinstance(error, OlderDirectory))
            return
        helps = self._helps(error)
        if helps is not None:
            raise type(error)(str(error), next_step=helps) from error
        self._left -= 1
        self._begin(_CAUSES[type(error)], code=error.code, reason=str(error))

    def _helps(self, error: EventStreamError) -> str | None:
        """What helps where this process can do nothing about `error`; None where it can."""
        if self._alone:
            return "put a copy of its directory back: no other node has this log"
        if self._left:
            return None
        if isinstance(error, DamagedRecord):
            return "check the disk: what came from the other nodes was damaged again"
        return "see whether two processes run as this node"

    def _trust(self, reason: str, *, older: bool = False) -> None:
        self._place.trust_copy(older=older)
        log.warning("copy_trusted", extra={"reason": reason})

    def _begin(self, why: Distrust, *, code: str, reason: str) -> None:
        aside = self._place.begin_rejoin(why)
        log.warning("rejoin_begun", extra={"code": code, "reason": reason, "put_aside": aside})


async def keep_running(
    repair: Repair,
    run: Callable[[], Awaitable[None]],
    *,
    inline: bool = False,
    unsound: AskOthers | None = None,
) -> None:
    """`run` a node, which opens its storage with `repair`; after an error that can be repaired, again.

    With `inline` the repair is done in the event loop, not in another thread. `unsound` tells which other
    nodes do not trust their disks, see `PeerDisks`. Raises what cannot be repaired.
    """
    while True:
        begun = trio.current_time()
        try:
            return await run()
        except (EventStreamError, BaseExceptionGroup) as error:
            cause = repairable(error)
            if cause is None:
                raise
        cause.with_traceback(None)  # it would keep the first node, and all its keys, beside the second
        ran_s = trio.current_time() - begun
        if unsound is not None:
            await repair.check_others(cause, unsound)
        if inline:
            repair.after(cause, ran_s)
        else:
            await trio.to_thread.run_sync(repair.after, cause, ran_s)
        del cause


def repairable(error: BaseException) -> EventStreamError | None:
    """The cause, where `error` says nothing but that something on this node's disk is not to be believed."""
    if isinstance(error, BaseExceptionGroup):
        causes = [repairable(each) for each in error.exceptions]
        return None if None in causes else causes[0]
    return error if isinstance(error, EventStreamError) and type(error) in (*_CAUSES, DamagedIndex) else None
