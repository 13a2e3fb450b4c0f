"""The errors of playbooks and their runs, with codes ES45xx; the toolkit's others are in `esctl/errors.py`.

Called by everything in `esctl/playbook` and its commands, and by the loads that its runs start.
"""

from typing import Any

from esctl.errors import CleanUpIncomplete, Inconclusive, VerdictFailed
from esnode.errors import CallerError, OperatorError


class RunNotFound(OperatorError):
    """This user has no run with that id on this machine, or no run at all."""

    code = "ES4520"
    title = "there is no such run of a playbook"
    next_step = "esctl playbook runs"


class RunUnderWay(OperatorError):
    """Another playbook is running on the cluster, or another process is executing this run."""

    code = "ES4521"
    title = "refused: a playbook is already running"
    next_step = "esctl playbook runs"


class RunIsOver(OperatorError):
    """The run has a verdict and cannot be resumed, or everything that it did is already undone."""

    code = "ES4522"
    title = "refused: the run has ended"
    next_step = "esctl playbook report"


class PlanIsStale(OperatorError):
    """The plan was made for an earlier state and may be wrong."""

    code = "ES4524"
    title = "refused: the cluster or the playbook has changed since the plan"
    next_step = "esctl playbook plan PLAYBOOK"


class PlaybookFailed(VerdictFailed):
    """A step of the playbook failed, or a guard was breached."""

    code = "ES4525"
    title = "the playbook has failed"
    next_step = "esctl playbook report"


class PlaybookInconclusive(Inconclusive):
    """The playbook did not finish, or one of its conditions could not be evaluated."""

    code = "ES4526"
    title = "the playbook is inconclusive"
    next_step = "esctl playbook report"


class UndoIncomplete(CleanUpIncomplete):
    """Some steps of the playbook are not undone. The output lists the commands that undo them."""

    code = "ES4527"
    title = "the playbook could not undo everything"
    next_step = "esctl playbook abort"


class NoLongerHolds(OperatorError):
    """A condition that a step had established before the interruption no longer holds."""

    code = "ES4528"
    title = "refused: the result of an earlier step no longer holds"
    next_step = "esctl playbook abort"


class LoadNotFound(CallerError):
    """No background load of that name was started on the cluster, or its files were removed."""

    code = "ES4530"
    title = "there is no such background load"
    next_step = "esctl bench start"


class LoadRuns(OperatorError):
    """Two background loads of the same name cannot run at the same time."""

    code = "ES4531"
    title = "a background load of that name is already running"
    next_step = "esctl bench stop"


class RunUnreadable(OperatorError):
    """A file of the run is missing or damaged, or was written by another version of esctl."""

    code = "ES4532"
    title = "the files of the run cannot be used"
    next_step = "esctl playbook runs"


class CannotRepeat(OperatorError):
    """Repeating the interrupted step may do harm. An operator must check it and decide."""

    code = "ES4533"
    title = "refused: a step was interrupted and cannot be repeated safely"
    next_step = "esctl playbook abort"


class InvalidPlaybook(CallerError):
    """The file is not a valid playbook. The message lists all errors."""

    code = "ES4501"
    title = "the playbook cannot be read"
    next_step = "esctl playbook lint FILE"
    problems: tuple[Any, ...] = ()
    """Each with its place, as `esctl/playbook/table.py` notes them."""


class InvalidExpression(CallerError):
    """An expression does not follow the grammar. The message gives the position of the error."""

    code = "ES4502"
    title = "the expression is not well formed"
    next_step = "see the grammar: esctl docs playbooks"


class NotEvaluable(CallerError):
    """An expression compares different types, orders null (as in null < 1), or is neither true nor false."""

    code = "ES4503"
    title = "the expression has no value"
    next_step = "see the names and their types: esctl docs playbook-reference"


class UnknownValue(NotEvaluable):
    """An expression reads a name that does not exist, or has no value yet."""

    code = "ES4504"
    title = "the expression reads an unknown name"


class PlaybookNotFound(CallerError):
    """There is no such file, and no playbook in ./playbooks or shipped with esctl has that id."""

    code = "ES4505"
    title = "there is no such playbook"
    next_step = "esctl playbook ls"


class InvalidInput(CallerError):
    """An input of the playbook is missing, unknown, or has an invalid value."""

    code = "ES4506"
    title = "the inputs do not match the playbook"
    next_step = "see its inputs: esctl playbook show PLAYBOOK"


class UnsafePlaybook(CallerError):
    """The playbook can be read, but the linter has found an error in it."""

    code = "ES4507"
    title = "the playbook has errors"
    next_step = "fix the errors, then check again: esctl playbook lint FILE"


class UnplannableStep(OperatorError):
    """A step does not fit this cluster: it needs a leader, or a node that does not exist."""

    code = "ES4508"
    title = "a step of the playbook cannot be planned for this cluster"
    next_step = "esctl status"


class InvalidPlan(CallerError):
    """The file is not a plan that --save wrote."""

    code = "ES4509"
    title = "the file is not a plan"
    next_step = "esctl playbook plan PLAYBOOK --save FILE"


class RequirementsUnmet(OperatorError):
    """The cluster is too small, uses another backend, or does not allow faults."""

    code = "ES4510"
    title = "the playbook does not fit this cluster"
    next_step = "see what it needs: esctl playbook show PLAYBOOK"
