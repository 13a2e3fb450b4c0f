"""The nodes' logs laid side by side: is every event there, once, unchanged, in the same place everywhere?

Takes the raw records of each node as it serves them and believes nothing else: checks each checksum, that
offsets are dense, that every key is the digest of its event, and hashes keys and events of each node up to
an offset that all have. Never reads a network or a file and never prints. Called by
`esctl/verify/reading.py`, which feeds it; `verdict.py` says what it adds up to.
"""

import hashlib
import json
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from esctl.verify.sightings import DIGEST_BYTES, Sightings
from esctl.verify.verdict import Evidence, Flaw, LogFinding, LogFindings, LogVerdict, NodeEvidence, judge
from esctl.verify.window import DedupWindow, MayRepeat
from esnode import limits
from esnode.dedup.batch import identity_of, split_keys
from esnode.errors import DamagedRecord, ProtocolError
from esnode.events import decode_event, split_payload, stored_key
from esnode.raft.entry import Entry, EntryKind, parse

_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class _Shared:
    """A record that some nodes still have to show: its number, and its events as bytes to be hashed."""

    number: int
    hashed: tuple[bytes, ...]


@dataclass(slots=True)
class _Log:
    """One node's log, as far as it was read."""

    bit: int
    first_offset: int
    position: int
    """The offset that must come next."""
    hash: Any
    holes: list[tuple[int, int]] = field(default_factory=list)
    unhashed: deque[tuple[int, tuple[bytes, ...]]] = field(default_factory=deque)
    """Events that this node has shown and others not yet: first offset, bytes of each."""
    damaged_at: int = -1
    reading: bool = True
    gone: bool = False


class History:
    """Collects; `expect` first, then `begin` for every node that answers, then `add` in any order.

    `voters` are the configured nodes. Give the nodes' records in step: what one node has shown and
    another has not is kept in memory. `owns` says of a key whether its source is one of this log's
    partition; where there is one partition, it owns all. What others own and is before `moved_before` was
    taken under another ring.
    """

    def __init__(
        self, voters: Iterable[int], owns: Callable[[bytes], bool] | None = None, moved_before: int = 0
    ) -> None:
        self._voters = sorted(voters)
        self._logs: dict[int, _Log] = {}
        self._sightings = Sightings()
        self._shared: dict[bytes, _Shared] = {}
        self._findings = LogFindings()
        self._windows: set[DedupWindow] = set()
        self._owns, self._moved_before = owns, moved_before
        self._strays: dict[bytes, int] = {}
        self._duplicates_elsewhere = 0
        self._adopted = 0
        self.expecting = False
        """Is there an input? Then the order of attributes does not count."""
        self._hash_from = self._hashed_to = 0
        self._hash_limit = limits.MAX_INDEX
        """A node that was read to its end and has no more sets the end of all hashes."""

    @property
    def size_bytes(self) -> int:
        """Memory of what is known of single events."""
        return self._sightings.size_bytes

    def expect(self, key: bytes, encoded: bytes, file: int, line: int) -> None:
        """This event, encoded as in a batch, should be there. Before `begin`."""
        assert not self._logs, "what is expected must be known before the first record"
        self.expecting = True
        self._sightings.expect(key, self._digest(encoded, decode_event(encoded)), file, line)

    def allow(self, window: DedupWindow) -> None:
        """A node forgets keys by this window; where nodes differ, what one of them may do is allowed."""
        self._windows.add(window)

    def begin(self, node: int, first_offset: int) -> None:
        """The node's log is read from `first_offset` on. Before any `add`."""
        assert not any(log.position > log.first_offset for log in self._logs.values())
        bit = 1 << self._voters.index(node)
        empty = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._logs[node] = _Log(bit, first_offset, first_offset, empty)
        self._hash_from = self._hashed_to = max(log.first_offset for log in self._logs.values())

    def position(self, node: int) -> int:
        """The offset that the node must show next."""
        return self._logs[node].position

    def add(self, node: int, record: bytes) -> None:
        """One whole record, as the node served it."""
        log = self._logs[node]
        try:
            entry = parse(record)
        except DamagedRecord as error:
            self.damaged(node, str(error))
            return
        if not self._place(node, log, entry):
            # Kept apart from what other nodes have shown at these offsets: it may be the same record.
            self._sightings.hold(self._look_into(node, entry).number, log.bit)
            return
        name = hashlib.blake2b(record, digest_size=DIGEST_BYTES).digest()
        shared = self._shared.get(name)
        if shared is None:
            shared = self._shared[name] = self._look_into(node, entry)
        holders = self._sightings.hold(shared.number, log.bit)
        if not any(other.reading and not holders & other.bit for other in self._logs.values()):
            del self._shared[name]  # nobody will show it again
        if entry.base_offset < self._hash_limit:
            log.unhashed.append((entry.base_offset, shared.hashed))
            self._advance()

    def damaged(self, node: int, text: str) -> None:
        """What comes next on the node cannot be read. Said again of the same offset, it counts once."""
        log = self._logs[node]
        if log.damaged_at != log.position:
            log.damaged_at = log.position
            self._findings.add(LogFinding(Flaw.DAMAGED, node, log.position, text))

    def split(self, node: int, offset: int, text: str) -> None:
        """The node has applied what the cluster's log does not have at `offset`; -1: that is not known."""
        self._findings.add(LogFinding(Flaw.SPLIT_HISTORY, node, offset, text))

    def skip(self, node: int, to_offset: int) -> None:
        """The node says that it has what comes before `to_offset`, and does not show it."""
        self._pass_over(node, self._logs[node], to_offset)

    def finish(self, node: int, *, gone: bool = False) -> None:
        """The node has shown all it has; or it has `gone` before that, and gets no hash."""
        log = self._logs[node]
        log.reading, log.gone = False, gone
        if gone:
            log.unhashed.clear()
        else:
            self._hash_limit = min(self._hash_limit, log.position)
        self._advance()

    def keys(self, node: int) -> bytes:
        """The packed keys of the node's log from the first offset it was read at, for `Operations.check`.

        Zeros stand for what it did not show, or could not be read.
        """
        log = self._logs[node]
        return self._sightings.keys(log.bit, log.first_offset, log.position)

    def may_repeat(self, node: int) -> MayRepeat:
        """For `Operations.check`: may the node's event at an offset have been forgotten at a later one?

        Of an event that the log no longer has, it is taken that it was stored with the first that is there.
        """
        windows, bit = self._windows, self._logs[node].bit
        records = cache(lambda: self._sightings.records(bit))  # seldom asked, and never without a repeat

        def forgotten(earlier: int, later: int) -> bool:
            bases, times_ms = records()
            first, last = (max(0, bisect_right(bases, at) - 1) for at in (earlier, later))
            return any(one.over(earlier, times_ms[first], bases[last], times_ms[last]) for one in windows)

        return forgotten

    @property
    def strays(self) -> Mapping[bytes, int]:
        """Key and offset of the events whose source another partition owns."""
        return self._strays

    def find(self, keys: Collection[bytes]) -> dict[bytes, int]:
        """An offset of each of these keys that any node has shown."""
        return self._sightings.find(keys)

    def also_elsewhere(self, offset: int, text: str) -> None:
        """The event at this offset is in another partition as well."""
        self._duplicates_elsewhere += 1
        self._findings.add(LogFinding(Flaw.DUPLICATE, 0, offset, text))

    def verdict(
        self, *, exact: bool = False, strict: bool = False, strays: Collection[bytes] = ()
    ) -> LogVerdict:
        """What all of it adds up to. `exact`: what was expected is all that may be there.

        `strict`: name each event that was stored again after the window, not only count them.
        `strays`: the keys of all events that are in the wrong partition, where there are several.
        """
        nodes = {
            node: NodeEvidence(
                bit=log.bit,
                first_offset=log.first_offset,
                next_offset=log.position,
                holes=tuple(log.holes),
                hash=None if log.gone else log.hash.hexdigest(),
            )
            for node, log in self._logs.items()
        }
        evidence = Evidence(
            voters=len(self._voters), nodes=nodes, hashed_from=self._hash_from, hashed_to=self._hashed_to,
            expecting=self.expecting, exact=exact, windows=frozenset(self._windows), strict=strict,
            strays=strays, duplicates_elsewhere=self._duplicates_elsewhere, adopted=self._adopted,
        )  # fmt: skip
        return judge(evidence, self._sightings, self._findings)

    # --- inside ------------------------------------------------------------------------------------

    def _place(self, node: int, log: _Log, entry: Entry) -> bool:
        """Does the record come where it should? False when the node has shown its offsets before."""
        if entry.base_offset > log.position:
            self._pass_over(node, log, entry.base_offset)
        behind = entry.base_offset < log.position and log.position != log.first_offset
        if behind:
            text = f"offset {entry.base_offset} came after offset {log.position - 1}"
            self._findings.add(LogFinding(Flaw.REORDERED, node, entry.base_offset, text))
        log.position = max(log.position, entry.next_offset)
        return not behind

    def _pass_over(self, node: int, log: _Log, to_offset: int) -> None:
        missing = f"the events at offsets {log.position} to {to_offset - 1} are not on node {node}"
        self._findings.add(LogFinding(Flaw.HOLE, node, log.position, missing))
        log.holes.append((log.position, to_offset))
        log.position = to_offset

    def _look_into(self, node: int, entry: Entry) -> _Shared:
        """Look into a record that nobody has shown before."""
        keys = split_keys(entry.keys)
        if entry.kind is EntryKind.ADOPTION:  # another partition has the events
            self._adopted += len(keys)
            return _Shared(self._sightings.add_record(entry.base_offset, entry.log_time_ms, ()), keys)
        try:
            encoded = _encoded_events(entry, len(keys))
        except ProtocolError as error:
            self._findings.add(LogFinding(Flaw.DAMAGED, node, entry.base_offset, str(error)))
            return _Shared(self._sightings.add_record(entry.base_offset, entry.log_time_ms, ()), ())
        rows = []
        for place, (key, one) in enumerate(zip(keys, encoded, strict=True)):
            event, own_key, flaw = _look_at(one, key, has_token=entry.keys_have_tokens)
            if flaw:
                self._findings.add(LogFinding(Flaw.WRONG_KEY, node, entry.base_offset + place, flaw))
            if self._owns is not None and event is not None and not self._owns(own_key):
                self._misplaced(own_key, entry.base_offset + place, event)
            rows.append((own_key, self._digest(one, event)))
        hashed = tuple(key + one for key, one in zip(keys, encoded, strict=True))
        return _Shared(self._sightings.add_record(entry.base_offset, entry.log_time_ms, rows), hashed)

    def _misplaced(self, key: bytes, offset: int, event: Mapping[str, Any]) -> None:
        """The event belongs to another partition; it may have moved there."""
        self._strays.setdefault(key, offset)
        if offset < self._moved_before:
            return
        what = f"the event at offset {offset}, of source {event.get('source')!r:.60}"
        self._findings.add(LogFinding(Flaw.MISPLACED, 0, offset, f"{what}, is another partition's"))

    def _digest(self, encoded: bytes, event: Mapping[str, Any] | None) -> bytes:
        """Of an event's content. Only against a file does the order of attributes not count."""
        content = encoded
        if self.expecting and event is not None:
            with suppress(TypeError, ValueError):  # another producer may store what JSON does not know
                content = _CANONICAL.encode(event).encode()
        return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()

    def _advance(self) -> None:
        """Hash up to the offset that every node has shown, but for those that have gone."""
        compared = [log for log in self._logs.values() if not log.gone]
        end = min((log.position for log in compared), default=0)
        if end <= self._hashed_to:
            return
        for log in compared:
            _hash_up_to(log, self._hash_from, end)
        self._hashed_to = end


def _hash_up_to(log: _Log, start: int, end: int) -> None:
    while log.unhashed and log.unhashed[0][0] < end:
        base_offset, events = log.unhashed.popleft()
        wanted = events[max(0, start - base_offset) : end - base_offset]
        log.hash.update(b"".join(wanted))
        if base_offset + len(events) > end:
            log.unhashed.appendleft((end, events[end - base_offset :]))


def _encoded_events(entry: Entry, count: int) -> Sequence[bytes]:
    encoded = split_payload(entry.payload)
    if len(encoded) != count:
        raise ProtocolError(f"the record says {count} events and holds {len(encoded)}")
    return encoded


def _look_at(encoded: bytes, key: bytes, *, has_token: bool) -> tuple[dict[str, Any] | None, bytes, str]:
    """The event, None when it is none; its key of today; and why `key` is not the event's, empty when it is.

    An older record's key has no token: then the key of today is another one, of the same identity.
    """
    try:
        event = decode_event(encoded)
    except ProtocolError as error:
        return None, key, f"the event cannot be read: {error}"
    own_key = stored_key(event)
    if own_key is None:
        return None, key, "the event has no source and id"
    if key != own_key and (has_token or identity_of(key) != identity_of(own_key)):
        named = f"source {event['source']!r:.60}, id {event['id']!r:.60}"
        return event, key, f"the key {key.hex()} is not that of {named}"
    return event, own_key, ""


assert limits.KEY_BYTES == DIGEST_BYTES
