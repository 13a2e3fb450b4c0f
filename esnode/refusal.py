"""Why the core refuses a request: a few of the declared errors, told by their codes.

Called by the core, the deduplication, and what answers clients.
"""

import enum

from esnode.errors import (
    Busy,
    EarlierRefused,
    LeadershipLost,
    Moved,
    NotLeader,
    OutOfSequence,
    ProducerFenced,
    ProducersFull,
    RingConflict,
    TransferPending,
    UnknownProducer,
    WindowFull,
    WindowPassed,
)


class Refusal(enum.Enum):
    """Why the core refuses a request. The value is the code of the error that the client raises."""

    NOT_LEADER = NotLeader.code
    BUSY = Busy.code
    EARLIER_REFUSED = EarlierRefused.code
    WINDOW_FULL = WindowFull.code
    WINDOW_PASSED = WindowPassed.code
    """An earlier sending may have been done; this one was not."""
    MOVED = Moved.code
    RING_CONFLICT = RingConflict.code
    OUT_OF_SEQUENCE = OutOfSequence.code
    UNKNOWN_PRODUCER = UnknownProducer.code
    TRANSFER_PENDING = TransferPending.code
    PRODUCER_FENCED = ProducerFenced.code
    PRODUCERS_FULL = ProducersFull.code
    LEADERSHIP_LOST = LeadershipLost.code
    """The request was accepted, and its result is not known here."""
