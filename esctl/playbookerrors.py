"""The errors of playbooks and their runs, with codes ES45xx; the toolkit's others are in `esctl/errors.py`.

Called by everything in `esctl/playbook` and its commands, and by the loads that its runs start.
"""

from typing import Any

from esctl.errors import CleanUpIncomplete, Inconclusive, VerdictFailed
from esnode.errors import CallerError, OperatorError


class RunNotFound(OperatorError):
    """No run of that id was made by this user on this machine, or there is no run yet."""

    code = "ES4520"
    title = "there is no such run of a playbook"
    next_step = "esctl playbook runs"


class RunUnderWay(OperatorError):
    """One playbook at a time: another one holds the cluster, or this run goes on in another process."""

    code = "ES4521"
    title = "refused: a playbook is under way there"
    next_step = "esctl playbook runs"


class RunIsOver(OperatorError):
    """The run has its verdict, so there is nothing to go on with; or all that it did is undone."""

    code = "ES4522"
    title = "refused: the run is over"
    next_step = "esctl playbook report"


class PlanIsStale(OperatorError):
    """Between the plan and the run the cluster or the playbook changed; what was planned may be wrong now."""

    code = "ES4524"
    title = "refused: the cluster is no longer as the plan saw it"
    next_step = "esctl playbook plan PLAYBOOK"


class PlaybookFailed(VerdictFailed):
    """A step of a playbook did not do what it must, or a guard was breached."""

    code = "ES4525"
    title = "the playbook has failed"
    next_step = "esctl playbook report"


class PlaybookInconclusive(Inconclusive):
    """The playbook did not come to its end, or what it asked for could not be known."""

    code = "ES4526"
    title = "the playbook has no verdict"
    next_step = "esctl playbook report"


class UndoIncomplete(CleanUpIncomplete):
    """What a playbook did is not wholly undone; the commands that would do it are in the answer."""

    code = "ES4527"
    title = "the playbook could not undo all that it did"
    next_step = "esctl playbook abort"


class NoLongerHolds(OperatorError):
    """What a step of a run had established before the run was cut off is not so any more."""

    code = "ES4528"
    title = "refused: what an earlier step established no longer holds"
    next_step = "esctl playbook abort"


class LoadNotFound(CallerError):
    """No background load of that name was started on the cluster, or it was forgotten."""

    code = "ES4530"
    title = "there is no such load"
    next_step = "esctl bench start"


class LoadRuns(OperatorError):
    """A background load of that name is under way already."""

    code = "ES4531"
    title = "a load of that name is under way"
    next_step = "esctl bench stop"


class RunUnreadable(OperatorError):
    """A file of a run is missing, damaged, or of another version of esctl."""

    code = "ES4532"
    title = "the record of the run cannot be used"
    next_step = "esctl playbook runs"


class CannotRepeat(OperatorError):
    """A step was cut off in the middle, and to do it twice may do harm: a person has to look and decide."""

    code = "ES4533"
    title = "refused: a step was cut off and may not simply be repeated"
    next_step = "esctl playbook abort"


class InvalidPlaybook(CallerError):
    """The file is not a playbook that can be run: the message names everything that is wrong."""

    code = "ES4501"
    title = "the playbook cannot be read"
    next_step = "esctl playbook lint FILE"
    problems: tuple[Any, ...] = ()
    """Each with its place, as `esctl/playbook/table.py` notes them."""


class InvalidExpression(CallerError):
    """An expression is not written in the grammar: the message names the character."""

    code = "ES4502"
    title = "the expression is not well formed"
    next_step = "see the grammar: esctl docs playbooks"


class NotEvaluable(CallerError):
    """An expression compares values of different types, orders null, or is neither true nor false."""

    code = "ES4503"
    title = "the expression has no value"
    next_step = "see the names and their types: esctl docs playbook-reference"


class UnknownValue(NotEvaluable):
    """An expression reads a name that does not exist, or not yet, so it has no value."""

    code = "ES4504"
    title = "the expression reads what is not there"


class PlaybookNotFound(CallerError):
    """No file is there, and no playbook that is shipped or in ./playbooks has that id."""

    code = "ES4505"
    title = "there is no such playbook"
    next_step = "esctl playbook ls"


class InvalidInput(CallerError):
    """An input of a playbook is missing, is not known, or has a value that it does not take."""

    code = "ES4506"
    title = "the inputs do not fit the playbook"
    next_step = "esctl playbook show PLAYBOOK, for its inputs"


class UnsafePlaybook(CallerError):
    """The playbook can be read, but the linter has found an error in it."""

    code = "ES4507"
    title = "the playbook has errors"
    next_step = "fix what the findings name, then: esctl playbook lint FILE"


class UnplannableStep(OperatorError):
    """A step makes no sense on this cluster: a shape that needs a leader, a node that is not there."""

    code = "ES4508"
    title = "a step of the playbook cannot be planned here"
    next_step = "esctl status"


class InvalidPlan(CallerError):
    """The file is not a plan that --save wrote."""

    code = "ES4509"
    title = "the file is not a plan"
    next_step = "esctl playbook plan PLAYBOOK --save FILE"


class RequirementsUnmet(OperatorError):
    """The cluster is not what the playbook requires: too small, on another backend, or faults not allowed."""

    code = "ES4510"
    title = "the playbook does not fit this cluster"
    next_step = "esctl playbook show PLAYBOOK, for what it needs"
