"""What is left after the torture: every node's log, over the wire and from its files, against the clients.

The verdict never rests on what a node says of itself: over the wire only checked records count, and then
all nodes are stopped and their files are read without them. Called by the campaigns at the end.
"""

from dataclasses import dataclass
from typing import Any

import trio

from esctl.ui.terminal import Output, Terminal
from esctl.verify.history import History
from esctl.verify.reading import ReadOutcome, read_logs
from esctl.verify.verdict import Flaw, LogFindings, LogVerdict
from esnode import limits
from esnode.client import connect_node
from esnode.errors import DamagedRecord
from tests.torture.arena import CATCH_UP_TIMEOUT_S, Arena
from tests.torture.load import Load
from tests.torture.promises import Promises
from tests.torture.stored import FileLog, first_offset_in, read_files
from tests.torture.witness import Witness

PAGE_EVENTS = 100_000


@dataclass(frozen=True)
class Judgement:
    """What the logs of all nodes, and those who wrote and read them, say."""

    reading: ReadOutcome
    verdict: LogVerdict
    """The nodes against each other."""
    findings: LogFindings
    """The log against everything that clients did and were told."""
    missing: int
    """Acked events that are not at their offsets, looked up one by one, without the checker."""
    files: dict[int, FileLog]
    file_flaws: list[str]

    @property
    def clean(self) -> bool:
        return (
            self.verdict.clean
            and self.hashes_equal
            and self.findings.clean
            and not self.missing
            and not self.file_flaws
        )

    @property
    def hashes_equal(self) -> bool:
        """The same events in the same order on all nodes, over the wire and in the files."""
        return self.verdict.hashes_equal and len({found.events_hash for found in self.files.values()}) == 1

    @property
    def complete(self) -> bool:
        """Was every node read to the end?"""
        return self.reading.confirmed and not self.reading.troubles

    def as_data(self) -> dict[str, Any]:
        counts = self.findings.counts
        return {
            "log_events": self.reading.target,
            "lost": max(self.missing, counts[Flaw.LOST]),
            "twice": max(counts[Flaw.DUPLICATE], self.verdict.duplicates),
            "conflicts": counts[Flaw.OFFSET_CHANGED],
            "reordered": counts[Flaw.REORDERED],
            "stale_reads": counts[Flaw.STALE_READ],
            "of_unknown_origin": counts[Flaw.PHANTOM],
            "hashes_equal": self.hashes_equal,
            "files_read": sorted(self.files),
            "flaws": [
                *(finding.text for finding in (*self.verdict.examples, *self.findings.examples)),
                *self.file_flaws,
            ],
            "not_read": self.reading.troubles,
        }


async def judge(ring: Arena, load: Load, witness: Witness) -> Judgement:
    """Read every node's log, stop the nodes, read their files, and hold all of it against the clients."""
    history = History(ring.numbers)
    silent = Terminal(Output.JSON)
    with silent.progress("") as nobody:
        outcome = await read_logs(ring.cluster, history, CATCH_UP_TIMEOUT_S, lambda _total: nobody)
    await witness.wait_seen(outcome.target)
    witness.end()
    first_offset, kept = await keys_of(ring, ring.numbers[0])
    # What retention has cut is known from the subscription, and what it saw is compared with what is left.
    log = bytes(witness.seen[: first_offset * limits.KEY_BYTES]) + kept
    findings = await trio.to_thread.run_sync(load.ledger.check, log)
    missing = Promises.of(load.ledger).missing_in(log)
    await ring.stop(ring.numbers)
    files, flaws = await trio.to_thread.run_sync(_look_into_files, ring, log, outcome.target)
    return Judgement(outcome, history.verdict(), findings, missing, files, flaws)


async def keys_of(ring: Arena, number: int) -> tuple[int, bytes]:
    """One node's log as it serves it: its first offset, and the keys from there on, packed."""
    keys = bytearray()
    async with connect_node(ring.cluster.node(number).client, cluster=ring.cluster.identity) as link:
        offset = first_offset = (await link.read_page(limits.MAX_INDEX, 1)).first_offset
        while page := (await link.read_page(offset, PAGE_EVENTS)).batches:
            for batch in page:
                keys += b"".join(batch.keys())
            offset = page[-1].next_offset
    return first_offset, bytes(keys)


def _look_into_files(ring: Arena, log: bytes, target: int) -> tuple[dict[int, FileLog], list[str]]:
    """The files of all nodes, and what is wrong with them."""
    files: dict[int, FileLog] = {}
    flaws: list[str] = []
    nodes = ring.cluster.nodes
    try:
        first_offset = max(first_offset_in(ring.cluster, node) for node in nodes)
        for node in nodes:
            files[node.id] = found = read_files(ring.cluster, node, first_offset, target)
            if found.keys != log[found.first_offset * limits.KEY_BYTES :][: len(found.keys)]:
                flaws.append(f"the files of node {node.id} hold other events than its log has")
            if found.next_offset < target:
                flaws.append(f"the files of node {node.id} end at {found.next_offset}, not at {target}")
    except DamagedRecord as error:
        flaws.append(f"after the files of {sorted(files)}: {error}")
    return files, flaws
