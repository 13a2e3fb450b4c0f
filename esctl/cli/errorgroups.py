"""Which error of a group is told: a command ends with one message, whatever has failed beside it.

Pure. Called by `invocation.py`, around what runs tasks.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from esctl import oserror
from esctl.ui.streams import ReaderLeft
from esnode.errors import EventStreamError


@contextmanager
def told_as_one() -> Iterator[None]:
    """Of a group of errors, the one that is to be reported is raised alone."""
    try:
        yield
    except BaseExceptionGroup as group:
        error = _the_one_error(group)
        raise error from error.__cause__


def _the_one_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What to report of a group: Ctrl-C, then a declared error; of nothing but the machine's, the first."""
    leaves = _leaves(group)
    for kind in (KeyboardInterrupt, EventStreamError, ReaderLeft):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0] if all(isinstance(leaf, oserror.KINDS) for leaf in leaves) else group


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for member in group.exceptions:
        found += _leaves(member) if isinstance(member, BaseExceptionGroup) else [member]
    return found
