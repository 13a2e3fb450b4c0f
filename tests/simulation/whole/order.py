"""What each client sent in order, held against the log: is it there in order?

Looks at events that were sent in one call and no more, by anybody: where they are is that call's doing. A
call that was not acked has lost its place, but `append_many` never leaves one event out and stores a
later one. Told of calls by `clients.py`, asked by `world.py`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from esnode.dedup.batch import split_keys

from ..outcome import Violation


@dataclass(slots=True)
class Call:
    """One call. Of `append_many` only the first event is sure to be queued by the time of the next call."""

    keys: tuple[bytes, ...]
    many: bool
    acked: bool = False


class Order:
    """All calls of all clients."""

    def __init__(self) -> None:
        self._calls: dict[str, list[Call]] = defaultdict(list)
        self._sent: Counter[bytes] = Counter()

    def call(self, client: str, keys: Sequence[bytes], *, many: bool = False) -> Call:
        """`client` is calling just now."""
        call = Call(tuple(keys), many)
        self._calls[client].append(call)
        self._sent.update(call.keys)
        return call

    def judge(self, log: bytes | bytearray) -> int:
        """Hold it against the packed keys of the log; returns how many events it says something of."""
        offsets = {key: offset for offset, key in enumerate(split_keys(bytes(log)))}
        judged = 0
        for client, calls in self._calls.items():
            last = -1
            for call in calls:
                places = list(self._places(call, offsets))
                if call.acked and places:
                    judged += len(places)
                    _demand(last < places[0], client, last, places[0])
                    if not call.many:
                        last = places[-1]
                    elif self._sent[call.keys[0]] == 1:
                        last = places[0]
                for earlier, later in pairwise(places):
                    _demand(earlier < later, client, earlier, later)
        return judged

    def _places(self, call: Call, offsets: dict[bytes, int]) -> Iterator[int]:
        """Where the events of a call are that nobody else has sent."""
        missing: bytes | None = None
        for key in call.keys:
            if self._sent[key] > 1:
                continue
            offset = offsets.get(key)
            if offset is None:
                missing = key
            elif missing is None:
                yield offset
            elif call.many:
                text = f"the event at {offset} is stored, one before it in the same list is not"
                raise Violation("order of a client", text)


def _demand(holds: bool, client: str, earlier: int, later: int) -> None:
    if not holds:
        text = f"what {client} sent first is at {earlier}, what it sent next at {later}"
        raise Violation("order of a client", text)
