"""Errors about how a cluster is set up: settings that nodes share, and the partitions of the log.

A part of `errors.py`, which everybody imports. Never prints, never logs.
"""

from esnode.errorfamilies import CallerError, OperatorError

# --- partitions --------------------------------------------------------------------------------


class UnknownPartition(CallerError):
    """The `Hello` names a partition that the other side does not have."""

    code = "ES1007"
    title = "there is no such partition"
    next_step = "connect without a partition: the answer of any node tells how many there are"


class PartitionNeeded(CallerError):
    """The request is about one partition, and the cluster has several."""

    code = "ES1008"
    title = "the cluster has several partitions, and the request names none"
    next_step = "name the partition: connect(..., partition=0), connect_node(..., partition=0)"


class Moved(CallerError):
    """The batch has an event whose source belongs to another partition; nothing of it was stored."""

    code = "ES1107"
    title = "the source of an event belongs to another partition"
    next_step = "connect without a partition: the client then sends each event to the owner of its source"


class RingConflict(CallerError):
    """The ring of a partition is not the one that this change would follow: another change came first."""

    code = "ES1108"
    title = "the ring cannot change in this way now"
    next_step = "look at the ring, and whether it is changing already: esctl ring show"


class PartitionDown(OperatorError):
    """The node is there, and its process for this partition is not: it has ended, and is started again."""

    code = "ES1204"
    title = "the process of this partition does not run on this node"
    next_step = "look for `partition_ended` in the log of the node, and for the last line before it"


# --- settings that all nodes share -------------------------------------------------------------


class SettingsDiffer(OperatorError):
    """Two nodes differ in a setting that must be the same on all: they refuse each other."""


class MembersDiffer(SettingsDiffer):
    """Two nodes list different members: a majority for one of them may not be a majority for the other."""

    code = "ES2030"
    title = "the configuration files of the nodes list different members"
    next_step = "find the file that differs: esctl why; restore its `members`, and restart that node"


class DedupDiffers(SettingsDiffer):
    """Two nodes differ in `[dedup]`: it would depend on the leader which events are duplicates."""

    code = "ES2031"
    title = "the configuration files of the nodes differ in [dedup]"
    next_step = (
        "find the file that differs: esctl why; to change it, stop all nodes, edit all files, start all nodes"
    )
