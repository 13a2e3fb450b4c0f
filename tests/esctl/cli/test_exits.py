"""The exit codes are a contract: one meaning each, and every declared error has one."""

import enum

import pytest

from esctl import errors
from esctl.exits import Exit, exit_of
from esctl.ui.answer import Trouble
from esnode.errors import (
    EventStreamError,
    InvalidConfig,
    NoQuorum,
    OperationTimeout,
    StorageFailed,
    Unreachable,
    declared,
)


def test_each_exit_code_has_one_meaning_and_its_published_number() -> None:
    assert enum.verify(enum.UNIQUE)(Exit) is Exit
    assert {code.name: int(code) for code in Exit} == {
        "OK": 0,
        "ERROR": 1,
        "USAGE": 2,
        "UNHEALTHY": 10,
        "VERDICT_FAILED": 11,
        "INCONCLUSIVE": 12,
        "REFUSED": 13,
        "CLEANUP_INCOMPLETE": 14,
        "REGRESSION": 15,
        "UNREACHABLE": 20,
        "TIMEOUT": 124,
        "INTERRUPTED": 130,
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidConfig, 2),
        (Unreachable, 20),
        (NoQuorum, 10),
        (OperationTimeout, 124),
        (errors.EventNotFound, 1),
        (errors.NotHealthy, 10),
        (errors.VerdictFailed, 11),
        (errors.Inconclusive, 12),
        (StorageFailed, 1),
        (errors.NotConfirmed, 13),
        (errors.CleanUpIncomplete, 14),
        (errors.SeveralClusters, 2),
        (errors.ClusterExists, 1),
        (errors.Interrupted, 130),
    ],
)
def test_an_error_ends_with_the_code_of_its_kind(error: type[EventStreamError], code: int) -> None:
    assert exit_of(error) == exit_of(error("what happened")) == code


def test_an_error_takes_the_code_of_its_nearest_parent() -> None:
    class Special(OperationTimeout):
        """Without a code of its own."""

    assert exit_of(Special("late")) is Exit.TIMEOUT


@pytest.mark.parametrize("error", declared().values(), ids=lambda error: error.code)
def test_every_error_can_be_explained_and_says_what_to_do(error: type[EventStreamError]) -> None:
    assert error.title
    assert error.__doc__
    assert error.next_step
    assert exit_of(error) != 0
    assert errors.family_of(error)
    trouble = Trouble.of(error("what happened"))
    assert (trouble.code, trouble.message, trouble.cause) == (error.code, "what happened", error.title)


def test_the_cause_of_an_error_is_the_error_it_was_raised_from() -> None:
    error = errors.MachineRefused("the file cannot be written")
    error.__cause__ = OSError("no space left")
    assert Trouble.of(error).cause == "no space left"
