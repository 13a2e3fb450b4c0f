"""What happened in one run, line by line, and the hash of it.

The hash is over every line, so two runs with one hash did the same things at the same times. The lines
are kept only when somebody wants to read them. Never decides. Used by both tiers.
"""

import hashlib
from collections.abc import Callable

Listener = Callable[[int, str, str, object], None]
"""Is told the time in ns, who, what, and the thing itself (a message, say) where there is one."""


class Trace:
    """A running hash, and a listener if there is one."""

    def __init__(self, listener: Listener | None = None) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._listener = listener

    def note(self, at_ns: int, who: str, what: str, detail: object = None) -> None:
        """Something happened; `detail` is for the listener only."""
        self._hash.update(f"{at_ns} {who} {what}\n".encode())
        if self._listener is not None:
            self._listener(at_ns, who, what, detail)

    @property
    def digest(self) -> str:
        """The hash of all lines so far."""
        return self._hash.hexdigest()


class NamedTrace(Trace):
    """A part of a trace: who does something has its name in front."""

    def __init__(self, whole: Trace, name: str) -> None:
        super().__init__()
        self._whole = whole
        self._name = name

    def note(self, at_ns: int, who: str, what: str, detail: object = None) -> None:
        """As `Trace.note`, in the whole."""
        self._whole.note(at_ns, f"{self._name}.{who}", what, detail)
