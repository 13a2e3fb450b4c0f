"""`dataclass(frozen=True, slots=True)` of the standard library, made in a fifth of the time.

Every command and every node makes more than a hundred such classes when it starts. The standard library
compiles six methods for each; here only `__init__` is compiled, and the others are shared. What they do is
the same: fields, `replace`, `asdict`, `match`, comparison, hash and the refusal to assign. For fields with
a default or a factory of defaults, and without `__post_init__`. Called by the modules with many classes.
"""

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal

MISSING: Final = dataclasses.MISSING


def _show(self: Any) -> str:
    shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
    return f"{type(self).__qualname__}({shown})"


def _copied(self: Any) -> tuple[type, tuple[object, ...]]:
    return type(self), tuple(getattr(self, name) for name in self.__match_args__)


def _refuse_to_assign(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _init(made: Any) -> Callable[..., None]:
    """Its `__init__`, which sets each slot through the slot's own descriptor."""
    scope: dict[str, Any] = {"MISSING": MISSING}
    parameters, lines = ["self"], ["pass"]
    for field in dataclasses.fields(made):
        name = field.name
        scope[f"set_{name}"] = getattr(made, name).__set__
        parameter, value = name, name
        if field.default_factory is not MISSING:
            scope[f"new_{name}"] = field.default_factory
            parameter, value = f"{name}=MISSING", f"new_{name}() if {name} is MISSING else {name}"
        elif field.default is not MISSING:
            scope[f"default_{name}"] = field.default
            parameter = f"{name}=default_{name}"
        parameters.append(parameter)
        lines.append(f"set_{name}(self, {value})")
    exec(f"def __init__({', '.join(parameters)}):\n " + "\n ".join(lines), scope)  # noqa: S102  # as dataclasses does
    init: Callable[..., None] = scope["__init__"]
    init.__qualname__ = f"{made.__qualname__}.__init__"
    return init


def _values_of(made: Any) -> Callable[[Any], object]:
    """What gives the values of all fields, to be compared and hashed."""
    names = made.__match_args__
    return attrgetter(*names) if names else lambda _: ()


def _made(cls: Any) -> Any:
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    values = _values_of(made)

    def equal(self: Any, other: Any) -> bool:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    made.__init__ = _init(made)
    made.__eq__ = equal
    made.__hash__ = lambda self: hash(values(self))
    if "__repr__" not in cls.__dict__:
        made.__repr__ = _show
    made.__reduce__ = _copied
    made.__setattr__, made.__delattr__ = _refuse_to_assign, _refuse_to_delete
    made.__dataclass_params__.frozen = True  # so the standard library lets frozen classes inherit from it
    return made


if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: Literal[True], slots: Literal[True]) -> Callable[[type], type]:
        """The decorator, for frozen and slotted classes only; all others are the standard library's."""
        return _made
