"""Why a request was not answered in time: the error that says most, and whether it is certainly not done.

Computes only. Called by `dispatcher.py`.
"""

from collections.abc import Sequence

from esnode.client.link import Link
from esnode.client.request import Request
from esnode.errors import (
    Busy,
    ClusterRestored,
    EarlierRefused,
    EventStreamError,
    NoQuorum,
    NotLeader,
    OperationTimeout,
    PartitionNeeded,
    UnknownPartition,
    Unreachable,
    VersionMismatch,
    WrongCluster,
)

_NEVER_ANSWERED = (WrongCluster, VersionMismatch, PartitionNeeded, UnknownPartition)


def restored(links: Sequence[Link]) -> ClusterRestored | None:
    """What a node said that belongs to a restored cluster, where no node of ours answers."""
    if any(link.connected for link in links):
        return None
    said = (link.error for link in links)
    return next((error for error in said if isinstance(error, ClusterRestored)), None)


def why_late(request: Request | None, links: Sequence[Link], leader: Link | None) -> EventStreamError:
    """The error of a request that its timeout found unanswered; None: it was never submitted."""
    if request is not None and request.refusal is not None and request.certainly_not_done:
        return _refused_to_the_end(request.refusal)
    if request is not None and request.sends:
        return OperationTimeout("no answer within the timeout; the request may or may not have been done")
    if request is not None and not request.done.is_set():
        return OperationTimeout("not sent within the timeout; it may still be sent together with others")
    connected = [link for link in links if link.connected]
    if leader is not None:
        return OperationTimeout("the window stayed full for the whole timeout; this one was not sent")
    if connected:
        return NoQuorum(f"{len(connected)} of {len(links)} nodes answer, and none leads")
    other = restored(links)
    if other is not None:
        return ClusterRestored(str(other), definite=request is None or request.certainly_not_done)
    for link in links:
        if isinstance(link.error, _NEVER_ANSWERED):
            return type(link.error)(f"{link.address}: {link.error}")
    reasons = "; ".join(f"{link.address}: {link.error or 'no answer yet'}" for link in links)
    return Unreachable(f"no node answers ({reasons})")


def _refused_to_the_end(refusal: EventStreamError) -> EventStreamError:
    """The error of a request that was sent, and each time refused for certain, until its timeout."""
    match refusal:
        case NotLeader():
            return NoQuorum(f"nobody led when it was sent: {refusal}")
        case Busy() | EarlierRefused():
            return OperationTimeout(f"refused until the timeout, so not done: {refusal}", definite=True)
        case _:
            return refusal
