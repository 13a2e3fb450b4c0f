"""Every error of the node and its client, by blame, each with a stable code.

The four families are in `errorfamilies.py`, what is about partitions and shared settings in
`clustererrors.py`. A request's error says whether it is definite ("not done") or
indefinite ("unknown: retry with the same ids"). Never prints, never logs. Called by everyone.
"""

from esnode.clustererrors import DedupDiffers as DedupDiffers
from esnode.clustererrors import MembersDiffer as MembersDiffer
from esnode.clustererrors import Moved as Moved
from esnode.clustererrors import PartitionDown as PartitionDown
from esnode.clustererrors import PartitionNeeded as PartitionNeeded
from esnode.clustererrors import RingConflict as RingConflict
from esnode.clustererrors import SettingsDiffer as SettingsDiffer
from esnode.clustererrors import UnknownPartition as UnknownPartition
from esnode.errorfamilies import Bug as Bug
from esnode.errorfamilies import CallerError as CallerError
from esnode.errorfamilies import EventStreamError as EventStreamError
from esnode.errorfamilies import OperatorError as OperatorError
from esnode.errorfamilies import PeerError as PeerError
from esnode.errorfamilies import declared as declared
from esnode.errorfamilies import first_of as first_of

# --- the caller's: events and requests ---------------------------------------------------------


class InvalidEvent(CallerError):
    """An event is not an object, lacks `id` or `source`, or has a value that CBOR cannot represent."""

    code = "ES1001"
    title = "the event is not a CloudEvent that can be stored"
    next_step = "give each event a non-empty text `id`, `source` and `type`"


class EventTooLarge(CallerError):
    """An event, its `id` or its `source` exceeds a size limit."""

    code = "ES1002"
    title = "the event is over a size limit"
    next_step = "make it smaller, or store the data elsewhere and send a reference"


class InvalidRequest(CallerError):
    """The fields of a request contradict each other or exceed a limit."""

    code = "ES1003"
    title = "the request is not valid"
    next_step = "compare it with the protocol: esctl docs protocol"


class OffsetOutOfRange(CallerError):
    """Retention has deleted the event at this offset."""

    code = "ES1004"
    title = "the offset is before the first event that is kept"
    next_step = "read from the first available offset, which the message gives"


class OutOfSequence(CallerError):
    """A producer session skipped a sequence number."""

    code = "ES1005"
    title = "the sequence number leaves a gap in the producer session"
    next_step = "send the missing events first; the client's `producer_state` gives the last stored number"


class UnknownProducer(CallerError):
    """The producer session was never opened, or was closed to make room for others."""

    code = "ES1006"
    title = "the producer session is not open"
    next_step = (
        "open a new session; within the deduplication window, earlier events are recognised by their keys"
    )


class ProducerFenced(CallerError):
    """Another process has opened the producer session of this name, so this session has ended."""

    code = "ES1030"
    title = "another process has opened the producer session of this name"
    next_step = "stop this process; or, if it should continue, connect again with the same name"


class ProducersFull(CallerError):
    """There is no room for another named producer session, and no session has been idle for long enough."""

    code = "ES1031"
    title = "there are too many named producer sessions"
    next_step = "reuse names instead of making new ones; a name that was not used for a week can be replaced"


class OffsetAfterRestore(OffsetOutOfRange):
    """The log was restored from a backup and ends before this offset, which only the old log had."""

    code = "ES1017"
    title = "the offset is past the end of the restored log"
    next_step = "read from the offset in the message: the old and the restored log are the same up to there"


# --- the caller's: not now ---------------------------------------------------------------------


class Busy(CallerError):
    """A queue of the node is full."""

    code = "ES1101"
    title = "the node is busy"
    next_step = "send again after a pause; nothing was stored"


class TooManyConnections(Busy):
    """The node already has its maximum number of connections, in total or from this address."""

    code = "ES1040"
    title = "the node has too many connections"
    next_step = "close unused connections, or connect to another node"


class FramesFull(Busy):
    """Too many large frames have arrived only partly."""

    code = "ES1041"
    title = "the node has no memory for another large frame"
    next_step = "send again after a pause, in smaller batches; nothing of this frame was accepted"


class NotLeader(CallerError):
    """The request needs the leader, and this node is not the leader."""

    code = "ES1102"
    title = "this node is not the leader"
    next_step = "send the request to the leader"


class LeadershipLost(CallerError):
    """The node accepted the request and then lost the leadership."""

    code = "ES1103"
    title = "the leader changed before the request was committed"
    next_step = "send it again with the same ids"
    definite = False


class EarlierRefused(CallerError):
    """An earlier append on this connection was refused, and this one must not be stored before it."""

    code = "ES1020"
    title = "an earlier append on this connection was refused"
    next_step = "send all appends again in order as a new run, beginning with the first refused one"


class WindowFull(CallerError):
    """The deduplication table is full, and `dedup.when_full` is "refuse"."""

    code = "ES1104"
    title = "the deduplication window is full"
    next_step = "wait for keys to expire, or raise dedup.max_bytes"


class WindowPassed(CallerError):
    """A batch was sent again after the node had forgotten keys that are newer than the first attempt."""

    code = "ES1106"
    title = "the batch was sent again after the deduplication window had passed"
    next_step = (
        "check whether the event is in the log before you send it as new: esctl event --source ... --id ..."
    )
    definite = False


class TransferPending(CallerError):
    """Only one transfer of the leadership runs at a time, and a pause follows a failed one."""

    code = "ES3121"
    title = "a transfer of the leadership is in progress, or has just failed"
    next_step = "wait a second, check which node leads, then try again"


class Rejoining(CallerError):
    """The node does not trust its own disk. It serves no reads until it has the log of the other nodes."""

    code = "ES1105"
    title = "the node is fetching its log from the other nodes and serves no reads"
    next_step = "read from another node; to see when this node is done: esctl status"


# --- availability ------------------------------------------------------------------------------


class Unreachable(OperatorError):
    """No node of the cluster answers."""

    code = "ES1201"
    title = "no node answers"
    next_step = "esctl cluster ls"


class NoQuorum(OperatorError):
    """Nodes answer, but none of them is the leader, so the request could not be sent."""

    code = "ES1202"
    title = "the cluster has no leader"
    next_step = "esctl status"


class OperationTimeout(OperatorError):
    """The timeout passed without an answer: the request may or may not have been done."""

    code = "ES1203"
    title = "no answer within the timeout"
    next_step = "esctl status health; sending again with the same ids is safe"
    definite = False


# --- a peer's ----------------------------------------------------------------------------------


class ProtocolError(PeerError):
    """The received bytes are not a valid message."""

    code = "ES2001"
    title = "the bytes are not a message of this protocol"
    next_step = "check which program is connected to that port"


class FrameTooLarge(PeerError):
    """The length of a frame is zero or over the limit."""

    code = "ES2002"
    title = "the length of the frame is not valid"
    next_step = "check which program is connected to that port"


class VersionMismatch(PeerError):
    """Each side supports only protocol versions that the other one does not support."""

    code = "ES2003"
    title = "the two sides have no common protocol version"
    next_step = "upgrade the older side; the message names it"


class WrongCluster(PeerError):
    """The other side belongs to another cluster."""

    code = "ES2004"
    title = "the node belongs to another cluster"
    next_step = "check the addresses in the configuration"


class WrongNode(PeerError):
    """The other side is not the node that the configuration names at this address, or is this node itself."""

    code = "ES2005"
    title = "the node is not the one that the configuration names"
    next_step = "check the addresses in the configuration"


class HandshakeTimeout(PeerError):
    """The other side did not send its handshake in time."""

    code = "ES2006"
    title = "the handshake took too long"
    next_step = "check which program is connected to that port"


class ConnectionLost(PeerError):
    """The connection ended before the answer to a request arrived."""

    code = "ES2007"
    title = "the connection was lost"
    next_step = "do nothing: the client connects again automatically"
    definite = False


class NewerPeer(ProtocolError):
    """The other side sent something that only a newer version understands; this side ignored it."""

    code = "ES3131"
    title = "the other side runs a newer version"
    next_step = "upgrade this node to the sender's version"


class UnknownDirectory(PeerError):
    """The peers remember another data directory of this node."""

    code = "ES2008"
    title = "the node's data directory is not the one that its peers know"
    next_step = "do nothing: the node automatically fetches its log from the other nodes"


class OlderDirectory(PeerError):
    """The data directory contains less of the log than before: older files were restored into it."""

    code = "ES2033"
    title = "the node's data directory contains an older state"
    next_step = "do nothing: the node fetches the missing entries as soon as all other nodes answer"


class NodeRunsElsewhere(PeerError):
    """Two processes run as one node: the other nodes refuse the one that is not at the node's address."""

    code = "ES2034"
    title = "another process runs as this node"
    next_step = "stop this process: never run a copy of a node at the same time as the original"


class DamagedSnapshot(PeerError):
    """The snapshot does not match its checksum or metadata. The node exits; the disk is unchanged."""

    code = "ES2009"
    title = "the snapshot that the leader sent is damaged"
    next_step = (
        "start the node again to fetch the snapshot again; if the error comes back, restart the leader"
    )


class ClusterRestored(WrongCluster):
    """The cluster was restored from a backup after the client connected, so it counts as another cluster."""

    code = "ES2020"
    title = "the cluster was restored from a backup, with a new epoch"
    next_step = (
        "connect again, then read and send again from the offset in the message: see esctl docs operations"
    )


# --- the operator's ----------------------------------------------------------------------------


class MembersChanged(OperatorError):
    """The configuration and the data directory of the node list different members; nothing was changed."""

    code = "ES2032"
    title = "the configuration and the stored data list different members"
    next_step = (
        "restore the members that the message names; for another number of nodes:"
        " esctl backup create; esctl backup restore FILE --name NEW --nodes 5"
    )


class InvalidConfig(OperatorError):
    """The configuration file cannot be used."""

    code = "ES3001"
    title = "the configuration is not valid"
    next_step = "fix the file; `esctl docs deployment` lists every key"


class AddressTaken(OperatorError):
    """Another process listens on a port of the node."""

    code = "ES3002"
    title = "the address is in use"
    next_step = "stop the process that uses it, or configure another port"


class FaultsNotAllowed(OperatorError):
    """The node was started without `[faults] allowed = true`, so it refuses every fault."""

    code = "ES3003"
    title = "the node does not allow faults"
    next_step = (
        "set `allowed = true` under `[faults]` in the node's file and restart it; see `esctl docs faults`"
    )


class WrongDirectory(OperatorError):
    """The data directory belongs to another node or cluster, or has another format."""

    code = "ES3101"
    title = "the data directory is not this node's"
    next_step = "point data_dir at this node's own directory; nothing was changed"


class NewerFormat(WrongDirectory):
    """A newer version wrote the stored data, which is not damaged. The process exits and changes nothing."""

    code = "ES3130"
    title = "the stored data was written by a newer version"
    next_step = "run the version that wrote it, or a newer one; nothing was changed"


class DirectoryInUse(OperatorError):
    """Another process has locked the data directory."""

    code = "ES3102"
    title = "another process uses the data directory"
    next_step = "stop that process first"


class StorageFailed(OperatorError):
    """A write or fsync failed: the process exits and acks nothing more."""

    code = "ES3103"
    title = "the disk refused a write"
    next_step = "check the disk, then start the node again: it repairs itself by replaying its log"
    definite = False


class DamagedRecord(OperatorError):
    """The bytes of a record differ from those that were written."""

    code = "ES3104"
    title = "a stored or received record is damaged"
    next_step = "start the node again: it repairs itself from the other nodes, if there are any"


class DamagedIndex(DamagedRecord):
    """An index of keys on disk differs from what was written; the log and the keys tell the same."""

    code = "ES3109"
    title = "an index of keys is damaged"
    next_step = "do nothing: the node starts again without that index, and makes it anew"


class UnsafeRepair(OperatorError):
    """Automatic repair is not safe while two nodes distrust their disks, so an operator must decide."""

    code = "ES3133"
    title = "the log is damaged, and another node does not trust its disk either"
    next_step = "when the other node is repaired, start this one again; or esnode --rejoin"


class CopiedDirectory(OperatorError):
    """The data directory is a copy, and may lack events that the node acked after the copy was made."""

    code = "ES3106"
    title = "the data directory is a copy"
    next_step = "if the node was stopped during the move: esnode --trust-copy; otherwise: esnode --rejoin"


class DistrustedDirectory(OperatorError):
    """The operation needs a trusted data directory, but this one contains the marker `rejoining`."""

    code = "ES3107"
    title = "the data directory is marked as one that cannot be trusted"
    next_step = "start the node in its cluster, without --trust-copy: it fetches the log from the other nodes"


class FilesGone(OperatorError):
    """The data directory, or a file in it, was removed or replaced while the node ran: the process exits."""

    code = "ES3132"
    title = "the node's files are no longer those that it opened"
    next_step = "find out what removed or replaced them, then: esctl cluster start"
    definite = False


class DamagedBackup(OperatorError):
    """The file is not a backup, or its bytes have changed; nothing was restored from it."""

    code = "ES3118"
    title = "the backup is damaged or incomplete"
    next_step = "use another backup: esctl backup ls; or make a new one: esctl backup create"


class HistoryConflict(OperatorError):
    """One of the two nodes has lost or changed committed entries."""

    code = "ES3120"
    title = "two nodes have different committed entries"
    next_step = (
        "copy both data directories; find the node that contradicts the majority (esctl why, esctl verify),"
        " and replace it: esctl node replace ID"
    )

    def __init__(
        self,
        message: str,
        *,
        next_step: str | None = None,
        definite: bool | None = None,
        index: int = 0,
    ) -> None:
        """`index` is the entry of this node's log that shows it, where one does."""
        super().__init__(message, next_step=next_step, definite=definite)
        self.index = index


class NothingToDamage(OperatorError):
    """The files of the stopped node contain no entry that could be damaged on purpose."""

    code = "ES3108"
    title = "the files contain nothing that could be damaged"
    next_step = "store some events first: esctl produce FILE; nothing was changed"


class EngineMissing(OperatorError):
    """The configured storage engine is not installed."""

    code = "ES3105"
    title = "the storage engine is not installed"
    next_step = 'pip install "eventstreamcore[rocksdb]"'
