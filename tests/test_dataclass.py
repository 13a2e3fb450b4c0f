"""What `esnode/dataclass.py` makes behaves as what the standard library makes."""

import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError, field
from typing import Any

import pytest

from esnode.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Quick:
    """A class with every kind of field."""

    number: int
    text: str = "none"
    many: list[int] = field(default_factory=list)

    @property
    def double(self) -> int:
        return 2 * self.number


@dataclasses.dataclass(frozen=True, slots=True)
class Plain:
    """The same, by the standard library."""

    number: int
    text: str = "none"
    many: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Empty:
    """No field at all."""


@dataclass(frozen=True, slots=True)
class One:
    """One field; `one` is no name that anything else uses."""

    one: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Inheriting(Quick):
    """Made by the standard library, of one that is not."""

    more: int = 7


def test_a_frozen_class_inherits_from_it() -> None:
    made: Any = Inheriting(1, more=8)
    assert (made.number, made.text, made.many, made.more) == (1, "none", [], 8)
    assert made == Inheriting(1, more=8)
    assert made != Inheriting(1)
    with pytest.raises(FrozenInstanceError):
        made.more = 1


def test_arguments_are_taken_by_position_by_name_and_by_default() -> None:
    for cls in (Quick, Plain):
        made: Any = cls(1, many=[2])
        assert (made.number, made.text, made.many) == (1, "none", [2])
    assert Quick(1).many is not Quick(1).many
    assert Quick(3).double == 6


@pytest.mark.parametrize("arguments", [(), (1, "a", [], 4)])
def test_wrong_arguments_are_refused_in_the_same_words(arguments: tuple[object, ...]) -> None:
    said = []
    for cls in (Quick, Plain):
        with pytest.raises(TypeError) as raised:
            cls(*arguments)  # type: ignore[arg-type]
        said.append(str(raised.value).replace("Plain", "Quick"))
    assert said[0] == said[1]


def test_the_text_of_an_instance_is_the_same() -> None:
    assert repr(Quick(1, "a")) == repr(Plain(1, "a")).replace("Plain", "Quick")
    assert repr(Empty()) == "Empty()"


def test_equal_are_instances_of_one_class_with_equal_values() -> None:
    assert Quick(1) == Quick(1)
    assert Quick(1) != Quick(2)
    assert Quick(1) != Plain(1)
    assert Empty() == Empty()
    assert Empty() != One()
    assert One() != ()


def test_equal_instances_have_equal_hashes_and_unhashable_values_are_refused() -> None:
    assert len({One((1,)), One((1,)), One((2,)), Empty(), Empty()}) == 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(Quick(1))


def test_an_instance_can_be_copied_and_pickled() -> None:
    made = Quick(1, "a", [2])
    deep = copy.deepcopy(made)
    assert copy.copy(made) == deep == pickle.loads(pickle.dumps(made)) == made
    assert deep.many is not made.many
    assert copy.copy(Inheriting(1, more=8)) == Inheriting(1, more=8)


def test_nothing_can_be_assigned_deleted_or_added() -> None:
    made: Any = Quick(1)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'number'"):
        made.number = 2
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'other'"):
        made.other = 2
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'number'"):
        del made.number
    assert made.number == 1
    assert not hasattr(made, "__dict__")


def test_the_functions_of_dataclasses_and_match_take_it() -> None:
    made = Quick(1, "a", [2])
    assert dataclasses.replace(made, number=5) == Quick(5, "a", [2])
    assert dataclasses.asdict(made) == {"number": 1, "text": "a", "many": [2]}
    assert [entry.name for entry in dataclasses.fields(Quick)] == ["number", "text", "many"]
    match made:
        case Quick(number, text):
            assert (number, text) == (1, "a")
