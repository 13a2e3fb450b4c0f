"""The errors of the toolkit itself, declared as those of the node are, with codes ES4xxx.

ES40xx: what the command names, and what it prints; ES41xx: processes and the machine; ES42xx: guards and
clean-up; ES43xx: checks that were made and whose answer is not yes; ES44xx: care of the data. Those of
playbooks (ES45xx) are in `esctl/playbookerrors.py`, what a node or the client library raises in
`esnode/errors.py`. Called by everything in `esctl`.
"""

from esnode.errors import CallerError, EventStreamError, OperatorError


class UsageError(CallerError):
    """The words of the command line do not fit together; nothing was done."""

    code = "ES4000"
    title = "the command line is not valid"
    next_step = "esctl --help"


class ClusterExists(OperatorError):
    """A cluster of that name is already there, running or not."""

    code = "ES4001"
    title = "the name is taken by another cluster"
    next_step = "esctl cluster ls"


class ClusterNotFound(OperatorError):
    """No cluster of that name was made by this user on this machine."""

    code = "ES4002"
    title = "there is no such cluster"
    next_step = "esctl cluster ls"


class NoCluster(OperatorError):
    """There is no cluster at all, so there is no default one either."""

    code = "ES4003"
    title = "there is no cluster yet"
    next_step = "esctl cluster up"


class SeveralClusters(CallerError):
    """A cluster is the default only if it is the only one."""

    code = "ES4004"
    title = "there are several clusters, and none was named"
    next_step = "esctl cluster ls; then add --cluster NAME, or set a default: esctl config set cluster NAME"


class InvalidName(CallerError):
    """The name of a cluster becomes the name of a directory."""

    code = "ES4005"
    title = "the name cannot name a cluster"
    next_step = "use 1 to 40 letters, digits, dots, dashes and underscores, a letter or digit first"


class NodeNotFound(CallerError):
    """The cluster has no node of that number."""

    code = "ES4006"
    title = "there is no such node"
    next_step = "esctl node ls"


class ClusterNotRunning(OperatorError):
    """None of the cluster's processes is alive."""

    code = "ES4007"
    title = "the cluster is not running"
    next_step = "esctl cluster start"


class NodeNotRunning(OperatorError):
    """The node has no live process, so there is nothing to send a signal to."""

    code = "ES4008"
    title = "the node is not running"
    next_step = "esctl node start ID"


class InvalidArgument(CallerError):
    """An argument is well formed but makes no sense here."""

    code = "ES4009"
    title = "the argument cannot be used"
    next_step = "esctl --help"


class UnknownCode(CallerError):
    """No error has this code."""

    code = "ES4010"
    title = "there is no such error code"
    next_step = "esctl explain, for a list of all"


class InputUnreadable(CallerError):
    """The input is not there, or the operating system does not let us read it."""

    code = "ES4011"
    title = "the input cannot be read"
    next_step = "check the path and its permissions; - reads from standard input"


class EventNotFound(CallerError):
    """The log has no event at that offset yet, or none of that source and id."""

    code = "ES4012"
    title = "there is no such event"
    next_step = "esctl consume --max 5"


class InvalidResult(CallerError):
    """The file was not written by --save: another schema, a missing part, or an impossible number."""

    code = "ES4013"
    title = "the file is not a result of esctl bench"
    next_step = "esctl bench produce --save FILE"


class NotComparable(CallerError):
    """Two results of different commands or settings: their figures do not answer the same question."""

    code = "ES4014"
    title = "the results do not measure the same"
    next_step = "esctl bench compare --anyway BASE.json OTHER.json, to compare them all the same"


class InvalidTime(CallerError):
    """A time is a moment (RFC 3339), a time of day in UTC, or how long ago it was."""

    code = "ES4020"
    title = "the time cannot be read"
    next_step = "write 2026-03-01T09:15:00Z, 09:15 (UTC) or 10m (ago)"


class InvalidStorm(CallerError):
    """The file was not written by --save: another schema, a fault that cannot be set, or no voters."""

    code = "ES4016"
    title = "the file is not a schedule of esctl fault storm"
    next_step = "esctl fault storm --seed 1 --save FILE --dry-run"


class OutputNotWritten(OperatorError):
    """A full disk, or a closed stream: the work was done, and what the command printed is not all there."""

    code = "ES4030"
    title = "what the command printed did not arrive"
    next_step = "see to what standard output leads to; reading again is safe"


class PortTaken(OperatorError):
    """Something else listens on a port that belongs to the cluster."""

    code = "ES4101"
    title = "a port of the cluster is in use"
    next_step = "stop what listens there, then: esctl cluster start"


class NodesAlive(OperatorError):
    """The files of a process that lives are never deleted: it would serve on without them."""

    code = "ES4130"
    title = "refused: nodes still run"
    next_step = "esctl cluster stop, then the same command again"


class NodeFilesGone(OperatorError):
    """The configuration of a node is not where the cluster's description says. Nothing was started."""

    code = "ES4131"
    title = "the node's files are gone"
    next_step = "esctl doctor"


class NodeFailedToStart(OperatorError):
    """The process ended before it answered; the message ends with the tail of its log."""

    code = "ES4102"
    title = "a node did not start"
    next_step = "esctl logs"


class NodeNotReady(OperatorError):
    """The process lives and does not answer in time."""

    code = "ES4103"
    title = "a node runs and does not answer"
    next_step = "esctl logs; then esctl cluster wait"
    definite = False


class DirectoryTaken(OperatorError):
    """The data directory holds the nodes of another cluster, or files that are no node's."""

    code = "ES4104"
    title = "the data directory is not free"
    next_step = "esctl cluster up --data-dir DIR, with a directory that is free"


class StateUnreadable(OperatorError):
    """The toolkit's own note of a cluster is damaged or of a newer version."""

    code = "ES4105"
    title = "the description of the cluster cannot be used"
    next_step = "put back the file that the message names, or: esctl cluster destroy NAME --confirm NAME"


class NewerState(StateUnreadable):
    """The toolkit's own note was written by a newer one: this one would lose what it does not know."""

    code = "ES3134"
    title = "a newer esctl has written this"
    next_step = "upgrade to the newer version; nothing was changed"


class MachineRefused(OperatorError):
    """The operating system said no: permissions, disk space, too many processes."""

    code = "ES4106"
    title = "the operating system refused"
    next_step = "esctl doctor"


class IncompleteInstallation(OperatorError):
    """What comes with `esctl` beside its code (playbooks, documents, examples) is not there."""

    code = "ES4540"
    title = "a part of esctl is missing"
    next_step = "pip install --force-reinstall eventstreamcore"


class NodeNotBack(OperatorError):
    """Upkeep started a node again, and it does not follow, or lags, after the time that it was given."""

    code = "ES4120"
    title = "a node is not back yet"
    next_step = "esctl status"
    definite = False


class NetnsUnavailable(OperatorError):
    """The backend netns needs root, the commands ip and nsenter, and a kernel with namespaces and bridges."""

    code = "ES4110"
    title = "network namespaces cannot be used here"
    next_step = "esctl cluster up NAME --backend process; or fix what is missing, and run it as root"


class NetworkRefused(OperatorError):
    """The network of a cluster could not be made, cut, mended or taken away: the message says by what."""

    code = "ES4111"
    title = "the network of the cluster could not be changed"
    next_step = "esctl doctor"


class NotConfirmed(CallerError):
    """The command cannot be undone, and nobody confirmed it."""

    code = "ES4201"
    title = "refused: this needs a confirmation"
    next_step = "confirm it as the message says"


class Interrupted(CallerError):
    """Somebody pressed Ctrl-C. The answer says what was done until then."""

    code = "ES4203"
    title = "the command was interrupted"
    next_step = "run it again"
    definite = False


class CleanUpIncomplete(OperatorError):
    """Something that should be gone is still there."""

    code = "ES4202"
    title = "the clean-up is not complete"
    next_step = "remove what the message names, then run the same command again"


class FaultNotFound(CallerError):
    """No node has an active fault of that id: it was never set, was healed, or its lease is over."""

    code = "ES4015"
    title = "there is no such fault"
    next_step = "esctl fault ls"


class TooFewNodes(OperatorError):
    """The cluster cannot spare a node: it is small, or others are down or behind. Nothing was done."""

    code = "ES4204"
    title = "refused: the cluster would not survive it"
    next_step = "esctl status"


class Finding(OperatorError):
    """The check was made; its answer is not yes. Nothing was changed."""


class NotHealthy(Finding):
    """The cluster answers, and a stage of its health is not well: the message says which, and why."""

    code = "ES4301"
    title = "the cluster is not well"
    next_step = "esctl status"


class VerdictFailed(Finding):
    """The logs were compared: events were lost, doubled, changed or reordered."""

    code = "ES4302"
    title = "the proof has failed"
    next_step = "esctl logs --level warning"


class Inconclusive(Finding):
    """Nothing wrong was found, and not everything could be looked at: a node is down or behind."""

    code = "ES4303"
    title = "there is not enough to judge by"
    next_step = "esctl status"


class BackupOvertaken(OperatorError):
    """Retention cut the log faster than it was read, again and again."""

    code = "ES4401"
    title = "the log was cut while it was backed up"
    next_step = (
        "esctl backup create, once more; or keep more of the log, see [retention] in `esctl docs deployment`"
    )


class FileTaken(CallerError):
    """Something has that name already; it was not touched."""

    code = "ES4402"
    title = "there is a file of that name already"
    next_step = "name another file"


class QuorumNotLost(OperatorError):
    """A majority of the nodes answers, or does once it is started: nothing is lost, and nothing was done."""

    code = "ES4403"
    title = "refused: the cluster has its quorum"
    next_step = "esctl status health"


class SurvivorDistrusted(OperatorError):
    """The log of the chosen node cannot be trusted, or another node has more; nothing was changed."""

    code = "ES4404"
    title = "refused: that node's log is not the one to go on with"
    next_step = "name another node with --from-node; or restore the last backup: esctl backup ls"


class BelowFloor(OperatorError):
    """A follower has not read what would be cut, or no backup has it; nothing was cut."""

    code = "ES4405"
    title = "refused: events would be cut that something still needs"
    next_step = "esctl backup create"


class DrillFailed(Finding):
    """What was restored is not what is in the cluster: this backup is of no use."""

    code = "ES4406"
    title = "the backup does not lead back to the same log"
    next_step = "keep the file and the data directories as they are; esctl verify"


class NodeStillRuns(OperatorError):
    """What is read from its data directory has to be stopped; nothing was done."""

    code = "ES4407"
    title = "refused: the node is running"
    next_step = "leave out --offline"


class ExportOfAnother(CallerError):
    """The file holds events of another cluster, or of a log that was restored differently since."""

    code = "ES4408"
    title = "the file belongs to another cluster"
    next_step = "export into another file"


class OtherLeader(OperatorError):
    """The leadership moved, and another election came between: a node that was not named leads now."""

    code = "ES4304"
    title = "another node leads than the one that was named"
    next_step = "esctl leader show"


class Regression(Finding):
    """A figure is worse than that of the base, by more than it moves from run to run."""

    code = "ES4305"
    title = "a measurement is worse than the one it was compared with"
    next_step = "esctl bench report BASE.json OTHER.json"


class Drifted(Finding):
    """Under a steady load, memory or latency rose on and on after the first two minutes."""

    code = "ES4306"
    title = "something does not stay where it was"
    next_step = "esctl bench soak, for longer, to see where it leads"


class AuditBroken(VerdictFailed):
    """A line of an audit log was changed, added, taken out, or not finished when the machine went down."""

    code = "ES4205"
    title = "the audit log is not what was written"
    next_step = "keep the file as it is, and compare it with a backup"


class Unchangeable(OperatorError):
    """The file is valid, and a change of it would change something else, too. Nothing was changed."""

    code = "ES4132"
    title = "the file cannot be changed by esctl"
    next_step = "change it by hand"


class InvalidSetting(CallerError):
    """A key of a configuration file is not known, or its value makes no sense. Nothing was done."""

    code = "ES4121"
    title = "the configuration is not valid"
    next_step = "fix what the message names, then run the command again"


class NoSchema(CallerError):
    """There is no command of that name, or it prints no JSON."""

    code = "ES4122"
    title = "there is no such schema"
    next_step = "esctl schema, for a list of all"


class PastThreshold(Finding):
    """A figure that a monitor asks for is past its threshold, or cannot be had."""

    code = "ES4025"
    title = "a figure is past its threshold"
    next_step = "esctl why"


class NoEffect(OperatorError):
    """The nodes took the order, and what they show says that nothing was struck: a bug, or a way around."""

    code = "ES4308"
    title = "the fault has no effect"
    next_step = "esctl fault ls; then esctl logs --level warning"


class NeverRecovered(VerdictFailed):
    """A cluster that could spare the node that was struck acked nothing until that node was brought back."""

    code = "ES4307"
    title = "the cluster did not recover from a strike"
    next_step = "esctl logs --level warning"


def family_of(error: type[EventStreamError]) -> str:
    """Whose turn it is, in words."""
    if issubclass(error, CallerError):
        return "the caller can fix it"
    if issubclass(error, OperatorError):
        return "an operator is needed"
    return "the other end of a connection broke the protocol" if error.code.startswith("ES2") else "a bug"
