"""What a dispatcher asks of others about appends: which number they get, and where they belong.

Decides nothing: `producer.py` has the one, `log.py` the other. Used by `dispatcher.py`.
"""

from typing import Protocol

from esnode.client.request import Request
from esnode.dedup.batch import Batch


class Numbering(Protocol):
    """The producer session, as the dispatcher sees it; `producer.py` has it."""

    def number(self, request: Request) -> Batch | None:
        """The batch of an append with its number; None where it has to wait, or is settled."""
        ...

    def gave_up(self, request: Request) -> None:
        """`request` ends without being acked."""
        ...

    def refused(self) -> None:
        """A node said that the session cannot go on like this."""
        ...


class Router(Protocol):
    """Finds the owners of events, where a client knows the ring; `log.py` has it."""

    def is_stray(self, batch: Batch, partition: int) -> bool:
        """Whether some of these events are not of `partition`, under the newest ring that is known."""
        ...

    def move(self, request: Request, partition: int) -> Request | None:
        """Send `request`, which nobody answers now, to the owners of its events; what stays, if anything."""
        ...
