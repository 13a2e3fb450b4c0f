"""The families of errors, by blame: the caller's, a peer's, the operator's, and a bug.

Each class that is declared has a `code` that never changes, a `title`, and the `next_step` that usually
helps; an instance may name a better one. The errors themselves are in `errors.py`, which everybody imports.
"""

from typing import ClassVar


class EventStreamError(Exception):
    """The base of all declared errors. `str(error)` says what happened."""

    code: ClassVar[str] = ""
    title: ClassVar[str] = ""
    next_step: str = ""
    definite: bool = True
    """True: what was asked for was certainly not done. False: it may have been."""

    def __init__(self, message: str, *, next_step: str | None = None, definite: bool | None = None) -> None:
        super().__init__(message)
        if next_step is not None:
            self.next_step = next_step
        if definite is not None:
            self.definite = definite


class CallerError(EventStreamError):
    """The caller of the library or the sender of the request can fix it."""


class PeerError(EventStreamError):
    """The other end of a connection broke the protocol: that connection ends.

    The node goes on, but for two: what `UnknownDirectory` says of its own disk makes it rejoin, and a
    `DamagedSnapshot` ends it.
    """


class OperatorError(EventStreamError):
    """The configuration, the machine or the cluster needs a person."""


class Bug(EventStreamError):
    """The program has detected an impossible state. The process exits with a report."""

    code = "ES9001"
    title = "a broken invariant"
    next_step = "report it with the log of this node"
    definite = False


def declared() -> dict[str, type[EventStreamError]]:
    """Every declared error that has a code, by code."""
    found: dict[str, type[EventStreamError]] = {}
    waiting: list[type[EventStreamError]] = [EventStreamError]
    while waiting:
        cls = waiting.pop()
        if "code" in cls.__dict__ and cls.code:
            assert cls.code not in found, f"two errors share the code {cls.code}"
            found[cls.code] = cls
        waiting.extend(cls.__subclasses__())
    return dict(sorted(found.items()))


def first_of(group: BaseExceptionGroup[EventStreamError]) -> EventStreamError:
    """The first error inside a nursery's group: the one that the others followed from."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first
