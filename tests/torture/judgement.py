"""What is left after the torture: every node's log, over the wire and from its files, against the ledger.

The verdict never rests on what a node says of itself: over the wire only checked records count, and then
all nodes are stopped and their files are read without them. Called by the campaigns at the end.
"""

from dataclasses import dataclass
from typing import Any

import trio

from esctl.proof.audit import Audit, audit
from esctl.proof.history import History
from esctl.proof.verdict import Verdict
from esctl.terminal import Output, Terminal
from esnode.client import connect_node
from esnode.errors import DamagedRecord
from tests.torture.arena import CATCH_UP_TIMEOUT_S, Arena
from tests.torture.ledger import Comparison, Ledger
from tests.torture.stored import FileLog, read_files

PAGE_EVENTS = 100_000
EXAMPLES = 5


@dataclass(frozen=True)
class Judgement:
    """What the logs of all nodes and the ledger say."""

    audit: Audit
    verdict: Verdict
    over_the_wire: Comparison
    in_files: dict[int, Comparison]
    file_hashes: dict[int, str]
    unreadable: list[str]
    """Nodes whose files could not be read to the end."""
    conflicts: list[str]

    @property
    def clean(self) -> bool:
        compared = [self.over_the_wire, *self.in_files.values()]
        return (
            self.verdict.clean
            and self.hashes_equal
            and all(one.clean for one in compared)
            and not self.conflicts
            and not self.unreadable
        )

    @property
    def hashes_equal(self) -> bool:
        """The same events in the same order on all nodes, over the wire and in the files."""
        return self.verdict.hashes_equal and len(set(self.file_hashes.values())) == 1

    @property
    def complete(self) -> bool:
        """Was every node read to the end?"""
        return self.audit.confirmed and not self.audit.troubles

    def as_data(self) -> dict[str, Any]:
        compared = [self.over_the_wire, *self.in_files.values()]
        return {
            "log_events": self.verdict.events,
            "lost": max(len(one.lost) for one in compared),
            "twice": self.verdict.duplicates + max(one.twice for one in compared),
            "conflicts": len(self.conflicts),
            "of_unknown_origin": max(one.unknown_origin for one in compared),
            "hashes_equal": self.hashes_equal,
            "files_read": sorted(self.in_files),
            "flaws": [
                *(finding.text for finding in self.verdict.examples),
                *(text for one in compared for text in one.lost[:EXAMPLES]),
                *self.conflicts[:EXAMPLES],
                *self.unreadable,
            ],
            "not_read": self.audit.troubles,
        }


async def judge(ring: Arena, ledger: Ledger) -> Judgement:
    """Read every node's log, stop the nodes, read their files, and hold all of it against the ledger."""
    history = History(ring.numbers)
    silent = Terminal(Output.JSON)
    with silent.progress("") as nobody:
        outcome = await audit(ring.cluster, history, CATCH_UP_TIMEOUT_S, lambda _total: nobody)
    over_the_wire = ledger.compare(await keys_of(ring, ring.numbers[0]))
    await ring.stop(ring.numbers)
    in_files: dict[int, Comparison] = {}
    hashes: dict[int, str] = {}
    unreadable: list[str] = []
    for number in ring.numbers:
        node = ring.cluster.node(number)
        try:
            found: FileLog = await trio.to_thread.run_sync(read_files, ring.cluster, node, outcome.target)
        except DamagedRecord as error:
            unreadable.append(f"the files of node {number}: {error}")
            continue
        in_files[number], hashes[number] = ledger.compare(found.keys), found.events_hash
    return Judgement(
        outcome, history.verdict(), over_the_wire, in_files, hashes, unreadable, ledger.conflicts
    )


async def keys_of(ring: Arena, number: int) -> bytes:
    """The keys of one node's log as it serves them, packed, from offset 0 on."""
    keys = bytearray()
    async with connect_node(ring.cluster.node(number).client, cluster=ring.cluster.identity) as link:
        offset = 0
        while page := (await link.read_page(offset, PAGE_EVENTS)).batches:
            for batch in page:
                keys += b"".join(batch.keys())
            offset = page[-1].next_offset
    return bytes(keys)
