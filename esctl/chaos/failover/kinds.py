"""What can be done to a leader. Light: the command line needs it for its help."""

import enum


class StrikeKind(enum.StrEnum):
    """What is done to the leader."""

    KILL = "kill"
    PAUSE = "pause"
    PARTITION = "partition"
    TRANSFER = "transfer"
