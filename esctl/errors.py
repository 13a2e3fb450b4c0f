"""The errors of the toolkit itself, declared as those of the node are, with codes ES4xxx.

ES40xx: what the command names, and what it prints; ES41xx: processes and the machine; ES42xx: guards and
clean-up; ES43xx: checks that were made and failed; ES44xx: care of the data. Those of
playbooks (ES45xx) are in `esctl/playbookerrors.py`, what a node or the client library raises in
`esnode/errors.py`. Called by everything in `esctl`.
"""

from esnode.errors import CallerError, EventStreamError, OperatorError


class UsageError(CallerError):
    """The words after `esctl` are not a valid command. Nothing was done."""

    code = "ES4000"
    title = "the command line is not valid"
    next_step = "esctl --help"


class ClusterExists(OperatorError):
    """A cluster of that name exists already. It may be running or stopped."""

    code = "ES4001"
    title = "the name is taken by another cluster"
    next_step = "esctl cluster ls"


class ClusterNotFound(OperatorError):
    """This user has created no cluster of that name on this machine."""

    code = "ES4002"
    title = "there is no such cluster"
    next_step = "esctl cluster ls"


class NoCluster(OperatorError):
    """There is no cluster that the command could use by default."""

    code = "ES4003"
    title = "there is no cluster yet"
    next_step = "esctl cluster up"


class SeveralClusters(CallerError):
    """A command uses a cluster by default only if there is no other one."""

    code = "ES4004"
    title = "there are several clusters, and none was named"
    next_step = "esctl cluster ls; then add --cluster NAME, or set a default: esctl config set cluster NAME"


class InvalidName(CallerError):
    """The name of a cluster becomes the name of a directory."""

    code = "ES4005"
    title = "the name is not valid for a cluster"
    next_step = "use 1 to 40 letters, digits, dots, dashes and underscores; begin with a letter or digit"


class NodeNotFound(CallerError):
    """The cluster has no node with that number."""

    code = "ES4006"
    title = "there is no such node"
    next_step = "esctl node ls"


class ClusterNotRunning(OperatorError):
    """None of the cluster's processes is alive."""

    code = "ES4007"
    title = "the cluster is not running"
    next_step = "esctl cluster start"


class NodeNotRunning(OperatorError):
    """The node has no running process that could receive a signal."""

    code = "ES4008"
    title = "the node is not running"
    next_step = "esctl node start ID"


class InvalidArgument(CallerError):
    """An argument is well-formed but makes no sense for this command."""

    code = "ES4009"
    title = "the argument cannot be used"
    next_step = "esctl --help"


class OnePartitionOnly(CallerError):
    """The command knows clusters with one partition, and would answer wrongly about one with several."""

    code = "ES4017"
    title = "the command does not work with several partitions yet"
    next_step = "esctl status health"


class UnknownCode(CallerError):
    """No error has this code."""

    code = "ES4010"
    title = "there is no such error code"
    next_step = "see all codes: esctl explain"


class InputUnreadable(CallerError):
    """The input does not exist, or the operating system does not allow reading it."""

    code = "ES4011"
    title = "the input cannot be read"
    next_step = "check the path and its permissions; the path - means standard input"


class EventNotFound(CallerError):
    """The log has no event at that offset yet, or no event with that source and id."""

    code = "ES4012"
    title = "there is no such event"
    next_step = "esctl consume --max 5"


class InvalidResult(CallerError):
    """The file was not written by --save: a wrong schema, a missing part, or an impossible number."""

    code = "ES4013"
    title = "the file is not a result of esctl bench"
    next_step = "esctl bench produce --save FILE"


class NotComparable(CallerError):
    """The two results are from different commands or settings, so their figures cannot be compared."""

    code = "ES4014"
    title = "the results measure different things"
    next_step = "to compare them anyway: esctl bench compare --anyway BASE.json OTHER.json"


class InvalidTime(CallerError):
    """A time is a date and time (RFC 3339), a time of day in UTC, or a duration before now."""

    code = "ES4020"
    title = "the time is not valid"
    next_step = "write for example 2026-03-01T09:15:00Z, 09:15 (UTC) or 10m (10 minutes ago)"


class InvalidStorm(CallerError):
    """The file was not written by --save: its schema differs, or it has invalid faults or no voters."""

    code = "ES4016"
    title = "the file is not a schedule of esctl fault storm"
    next_step = "esctl fault storm --seed 1 --save FILE --dry-run"


class OutputNotWritten(OperatorError):
    """The disk is full, or the stream was closed: the work was done, but the output is incomplete."""

    code = "ES4030"
    title = "the output could not be written"
    next_step = "check where standard output goes; reading again is safe"


class PortTaken(OperatorError):
    """Another process listens on a port that belongs to the cluster."""

    code = "ES4101"
    title = "a port of the cluster is in use"
    next_step = "stop the process that listens there, then: esctl cluster start"


class NodesAlive(OperatorError):
    """The files of a running node are never deleted: the node would keep working without them."""

    code = "ES4130"
    title = "refused: nodes are still running"
    next_step = "esctl cluster stop, then run the same command again"


class NodeFilesGone(OperatorError):
    """The configuration file of a node is not at its recorded path. Nothing was started."""

    code = "ES4131"
    title = "the node's files are gone"
    next_step = "esctl doctor"


class NodeFailedToStart(OperatorError):
    """The process exited before it answered; the message ends with the last lines of its log."""

    code = "ES4102"
    title = "a node did not start"
    next_step = "esctl logs"


class NodeNotReady(OperatorError):
    """The process is running, but did not answer in time."""

    code = "ES4103"
    title = "a node is running but does not answer"
    next_step = "esctl logs; then esctl cluster wait"
    definite = False


class DirectoryTaken(OperatorError):
    """The data directory contains the nodes of another cluster, or files that belong to no node."""

    code = "ES4104"
    title = "the data directory contains other files"
    next_step = "esctl cluster up --data-dir DIR, with an empty directory"


class StateUnreadable(OperatorError):
    """The file in which esctl describes a cluster is damaged, or was written by a newer version."""

    code = "ES4105"
    title = "the description of the cluster cannot be used"
    next_step = "restore the file that the message names, or: esctl cluster destroy NAME --confirm NAME"


class NewerState(StateUnreadable):
    """This version of esctl would lose the parts of the file that it does not know."""

    code = "ES3134"
    title = "the file was written by a newer esctl"
    next_step = "upgrade to the newer version; nothing was changed"


class MachineRefused(OperatorError):
    """Possible causes are missing permissions, a full disk, or too many processes."""

    code = "ES4106"
    title = "the operating system refused an operation"
    next_step = "esctl doctor"


class IncompleteInstallation(OperatorError):
    """Files that belong to `esctl` (playbooks, documents, examples) are missing."""

    code = "ES4540"
    title = "a part of esctl is missing"
    next_step = "pip install --force-reinstall eventstreamcore"


class NodeNotBack(OperatorError):
    """A restarted node did not follow the leader and catch up within the time limit."""

    code = "ES4120"
    title = "a node has not caught up yet"
    next_step = "esctl status"
    definite = False


class NetnsUnavailable(OperatorError):
    """The backend netns needs root, the commands ip and nsenter, and a kernel with namespaces and bridges."""

    code = "ES4110"
    title = "network namespaces cannot be used here"
    next_step = "esctl cluster up NAME --backend process; or install what is missing, and run it as root"


class NetworkRefused(OperatorError):
    """The network could not be created, partitioned, healed or removed; the message says why."""

    code = "ES4111"
    title = "the network of the cluster could not be changed"
    next_step = "esctl doctor"


class NotConfirmed(CallerError):
    """The command cannot be undone, and nobody confirmed it."""

    code = "ES4201"
    title = "refused: this needs a confirmation"
    next_step = "confirm it as the message says"


class Interrupted(CallerError):
    """The user pressed Ctrl-C. The output shows what was done until then."""

    code = "ES4203"
    title = "the command was interrupted"
    next_step = "run it again"
    definite = False


class CleanUpIncomplete(OperatorError):
    """Something that should have been removed is still there."""

    code = "ES4202"
    title = "the clean-up is not complete"
    next_step = "remove what the message names, then run the same command again"


class FaultNotFound(CallerError):
    """No node has an active fault with that id: it was never set, was healed, or its lease has expired."""

    code = "ES4015"
    title = "there is no such fault"
    next_step = "esctl fault ls"


class TooFewNodes(OperatorError):
    """The cluster is too small, or other nodes are down or behind. Nothing was done."""

    code = "ES4204"
    title = "refused: the cluster cannot spare a node"
    next_step = "esctl status"


class Finding(OperatorError):
    """A check was made and failed. Nothing was changed."""


class NotHealthy(Finding):
    """The cluster answers, but a stage of the health check failed: the message says which, and why."""

    code = "ES4301"
    title = "the cluster is not healthy"
    next_step = "esctl status"


class VerdictFailed(Finding):
    """A comparison of the logs shows that events were lost, duplicated, changed or reordered."""

    code = "ES4302"
    title = "the verification has failed"
    next_step = "esctl logs --level warning"


class Inconclusive(Finding):
    """Nothing wrong was found, but not everything could be checked: a node is down or behind."""

    code = "ES4303"
    title = "the check is inconclusive"
    next_step = "esctl status"


class BackupOvertaken(OperatorError):
    """Retention repeatedly deleted the beginning of the log before the backup had read it."""

    code = "ES4401"
    title = "retention deleted entries during the backup"
    next_step = (
        "try again: esctl backup create; or keep more of the log: see [retention] in `esctl docs deployment`"
    )


class FileTaken(CallerError):
    """The existing file was not changed."""

    code = "ES4402"
    title = "a file of that name exists already"
    next_step = "use another file name"


class QuorumNotLost(OperatorError):
    """A majority of the nodes answers, or would answer if started: nothing is lost, and nothing was done."""

    code = "ES4403"
    title = "refused: the cluster has a quorum"
    next_step = "esctl status health"


class SurvivorDistrusted(OperatorError):
    """The log of the chosen node cannot be trusted, or another node has a newer log; nothing was changed."""

    code = "ES4404"
    title = "refused: that node's log cannot be used for the recovery"
    next_step = "name another node with --from-node; or restore the last backup: esctl backup ls"


class BelowFloor(OperatorError):
    """A follower or the backups do not have the events yet. Nothing was deleted."""

    code = "ES4405"
    title = "refused: the command would delete events that are still needed"
    next_step = "esctl backup create"


class DrillFailed(Finding):
    """The restored events differ from those in the cluster: do not use this backup."""

    code = "ES4406"
    title = "the restored log differs from the log of the cluster"
    next_step = "keep the file and the data directories as they are, then: esctl verify"


class NodeStillRuns(OperatorError):
    """The node must be stopped before its data directory is read. Nothing was done."""

    code = "ES4407"
    title = "refused: the node is running"
    next_step = "leave out --offline"


class RingMoving(OperatorError):
    """Sources are moving from one partition to another, and a backup now would have some of them twice or in
    none. Nothing was done, or it was undone."""

    code = "ES4409"
    title = "refused while sources are moving between partitions"
    next_step = "esctl ring show"


class ExportOfAnother(CallerError):
    """The file contains events of another cluster, or of this cluster before a restore."""

    code = "ES4408"
    title = "the file belongs to another cluster"
    next_step = "export into another file"


class OtherLeader(OperatorError):
    """During the transfer, an election made a different node the leader."""

    code = "ES4304"
    title = "another node became the leader"
    next_step = "esctl leader show"


class Regression(Finding):
    """A figure is worse than in the base result, by more than it varies from run to run."""

    code = "ES4305"
    title = "a measurement is worse than the base result"
    next_step = "esctl bench report BASE.json OTHER.json"


class Drifted(Finding):
    """Under a steady load, memory or latency kept rising after the first two minutes."""

    code = "ES4306"
    title = "memory or latency keeps rising"
    next_step = "measure for longer: esctl bench soak"


class AuditBroken(VerdictFailed):
    """A line of an audit log was changed, added or removed, or a crash of the machine left it unfinished."""

    code = "ES4205"
    title = "the audit log was changed"
    next_step = "keep the file as it is, and compare it with a backup"


class Unchangeable(OperatorError):
    """The file is valid, but the change would affect other parts of it. Nothing was changed."""

    code = "ES4132"
    title = "the file cannot be changed automatically"
    next_step = "change it by hand"


class InvalidSetting(CallerError):
    """A configuration file has an unknown key or an invalid value. Nothing was done."""

    code = "ES4121"
    title = "the configuration is not valid"
    next_step = "fix what the message names, then run the command again"


class NoSchema(CallerError):
    """No command has that name, or the command prints no JSON."""

    code = "ES4122"
    title = "there is no such schema"
    next_step = "see all schemas: esctl schema"


class PastThreshold(Finding):
    """A monitored figure is beyond its threshold, or cannot be measured."""

    code = "ES4025"
    title = "a figure is beyond its threshold"
    next_step = "esctl why"


class NoEffect(OperatorError):
    """The nodes accepted the fault, but their status shows no effect: a bug, or the traffic bypasses it."""

    code = "ES4308"
    title = "the fault has no effect"
    next_step = "esctl fault ls; then esctl logs --level warning"


class NeverRecovered(VerdictFailed):
    """The cluster should ack events without the node, but acked none until the node was brought back."""

    code = "ES4307"
    title = "the cluster did not recover from the loss of a node"
    next_step = "esctl logs --level warning"


def family_of(error: type[EventStreamError]) -> str:
    """Who has to act, in words."""
    if issubclass(error, CallerError):
        return "the caller can fix it"
    if issubclass(error, OperatorError):
        return "an operator is needed"
    return "the other end of a connection broke the protocol" if error.code.startswith("ES2") else "a bug"
