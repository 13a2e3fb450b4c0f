"""What a node does that cannot trust its own disk: note it, begin to rejoin, and run again.

Decides which errors mean that: a damaged record, at the start or later; a directory that is a copy; peers
that know another directory of this node. A disk that refuses a write or a sync is never repaired here. In
a cluster of one there is nobody to rejoin: damage ends it, a copy is taken as it is. What rejoining is,
the core decides (`esnode/raft/rejoin.py`). Called by `__main__` and by the tests of whole nodes.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from esnode.errors import CopiedDirectory, DamagedRecord, EventStreamError, InvalidConfig, UnknownDirectory
from esnode.storage.interface import Storage
from esnode.storage.place import Place

log = logging.getLogger(__name__)

MAX_REPAIRS: Final = 3
"""A disk that damages what is fetched anew, again and again, is for the operator."""


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

    def open(self) -> Storage:
        """Open the place, the first time as the operator wants it. Raises what `Place` does."""
        if self._trust_copy:
            self._place.trust_copy()
            log.info("copy_trusted", extra={"reason": "the operator says so"})
        if self._rejoin:
            self._begin(keep_log=True, code="", reason="the operator says so")
        self._trust_copy = self._rejoin = False
        return self._place.open()

    def after(self, error: EventStreamError) -> None:
        """Make the place fit to be opened again after `error`; raises `error` where that cannot be."""
        if self._alone and isinstance(error, CopiedDirectory):
            self._place.trust_copy()
            log.warning("copy_trusted", extra={"reason": str(error)})
            return
        if self._alone:
            raise _with_next_step(error, "put a copy of its directory back: no other node has this log")
        if self._left == 0 and isinstance(error, DamagedRecord):
            raise _with_next_step(error, "check the disk: what came from the other nodes was damaged again")
        if self._left == 0:
            raise _with_next_step(error, "see whether two processes run as this node")
        self._left -= 1
        self._begin(keep_log=not isinstance(error, DamagedRecord), code=error.code, reason=str(error))

    def _begin(self, *, keep_log: bool, code: str, reason: str) -> None:
        aside = self._place.begin_rejoin(keep_log)
        log.warning("rejoin_begun", extra={"code": code, "reason": reason, "put_aside": aside})


def _with_next_step(error: EventStreamError, next_step: str) -> EventStreamError:
    return type(error)(str(error), next_step=next_step)


async def keep_running(repair: Repair, run: Callable[[], Awaitable[None]], *, inline: bool = False) -> None:
    """`run` a node, which opens its storage with `repair`; after an error that can be repaired, again.

    With `inline` the repair is done in the event loop, not in another thread. Raises what cannot be
    repaired.
    """
    while True:
        try:
            return await run()
        except (EventStreamError, BaseExceptionGroup) as error:
            cause = repairable(error)
            if cause is None:
                raise
        if inline:
            repair.after(cause)
        else:
            await trio.to_thread.run_sync(repair.after, cause)


def repairable(error: BaseException) -> EventStreamError | None:
    """The cause, where `error` says nothing but that this node's disk is not to be believed."""
    if isinstance(error, BaseExceptionGroup):
        causes = [repairable(each) for each in error.exceptions]
        return None if None in causes else causes[0]
    return error if isinstance(error, DamagedRecord | CopiedDirectory | UnknownDirectory) else None
