"""The exit codes of `esctl`, one meaning each, and which error ends with which.

A script may rely on these numbers; none is ever reused. Called by the commands and by
`esctl/cli/invocation.py`.
"""

import enum
from typing import Final

from esctl import errors as ours
from esctl import playbookerrors as playbooks
from esnode import errors as node


@enum.unique
class Exit(enum.IntEnum):
    """What the number says."""

    OK = 0
    ERROR = 1
    """The command failed, or did only a part of its work."""
    USAGE = 2
    """The command line, or a file that it names, is invalid; nothing was done."""
    UNHEALTHY = 10
    """A check was made and failed."""
    VERDICT_FAILED = 11
    """Events were lost, duplicated or reordered, a cluster did not recover, or an audit log was edited."""
    INCONCLUSIVE = 12
    """A check could not reach a verdict."""
    REFUSED = 13
    """A safety check refused the command, or nobody confirmed it; nothing was done."""
    CLEANUP_INCOMPLETE = 14
    """The clean-up is incomplete."""
    REGRESSION = 15
    """A measurement is worse than the base result."""
    UNREACHABLE = 20
    """No node answered."""
    TIMEOUT = 124
    """No answer within the timeout; for `produce`: an ack did not arrive in time, for whatever reason."""
    INTERRUPTED = 130


_BY_ERROR: Final[dict[type[node.EventStreamError], Exit]] = {
    node.InvalidConfig: Exit.USAGE,
    node.InvalidRequest: Exit.USAGE,
    node.FaultsNotAllowed: Exit.REFUSED,
    node.TransferPending: Exit.REFUSED,
    node.Unreachable: Exit.UNREACHABLE,
    node.NoQuorum: Exit.UNHEALTHY,
    node.OperationTimeout: Exit.TIMEOUT,
    ours.NodeNotBack: Exit.TIMEOUT,
    ours.UsageError: Exit.USAGE,
    ours.NoSchema: Exit.USAGE,
    ours.InvalidSetting: Exit.USAGE,
    ours.InvalidName: Exit.USAGE,
    ours.InputUnreadable: Exit.USAGE,
    ours.InvalidArgument: Exit.USAGE,
    ours.SeveralClusters: Exit.USAGE,
    ours.UnknownCode: Exit.USAGE,
    ours.InvalidTime: Exit.USAGE,
    ours.InvalidResult: Exit.USAGE,
    ours.NotComparable: Exit.USAGE,
    playbooks.InvalidPlaybook: Exit.USAGE,
    playbooks.InvalidExpression: Exit.USAGE,
    playbooks.PlaybookNotFound: Exit.USAGE,
    playbooks.InvalidInput: Exit.USAGE,
    playbooks.UnsafePlaybook: Exit.USAGE,
    playbooks.InvalidPlan: Exit.USAGE,
    playbooks.UnplannableStep: Exit.REFUSED,
    playbooks.RequirementsUnmet: Exit.REFUSED,
    ours.InvalidStorm: Exit.USAGE,
    ours.NotConfirmed: Exit.REFUSED,
    ours.TooFewNodes: Exit.REFUSED,
    ours.Interrupted: Exit.INTERRUPTED,
    ours.CleanUpIncomplete: Exit.CLEANUP_INCOMPLETE,
    ours.NotHealthy: Exit.UNHEALTHY,
    ours.PastThreshold: Exit.UNHEALTHY,
    ours.VerdictFailed: Exit.VERDICT_FAILED,
    ours.Inconclusive: Exit.INCONCLUSIVE,
    ours.Regression: Exit.REGRESSION,
    ours.Drifted: Exit.UNHEALTHY,
    ours.FileTaken: Exit.USAGE,
    ours.ExportOfAnother: Exit.USAGE,
    ours.QuorumNotLost: Exit.REFUSED,
    ours.SurvivorDistrusted: Exit.REFUSED,
    ours.BelowFloor: Exit.REFUSED,
    ours.NodeStillRuns: Exit.REFUSED,
    ours.NodesAlive: Exit.CLEANUP_INCOMPLETE,
    ours.DrillFailed: Exit.VERDICT_FAILED,
    node.DamagedBackup: Exit.VERDICT_FAILED,
    playbooks.RunUnderWay: Exit.REFUSED,
    playbooks.RunIsOver: Exit.REFUSED,
    playbooks.PlanIsStale: Exit.REFUSED,
    playbooks.NoLongerHolds: Exit.REFUSED,
    playbooks.CannotRepeat: Exit.REFUSED,
    playbooks.LoadNotFound: Exit.USAGE,
}


def exit_of(error: node.EventStreamError | type[node.EventStreamError]) -> Exit:
    """The code that a command ends with when `error` ends it: its own class's, or its nearest parent's."""
    cls = error if isinstance(error, type) else type(error)
    for ancestor in cls.__mro__:
        if ancestor in _BY_ERROR:
            return _BY_ERROR[ancestor]
    return Exit.ERROR
