"""Reads and runs the text stories in `scenarios/`.

A file opens with prose. Then come blocks: one or more commands, a line of four dashes, and what they
print, up to an empty line. Lines that begin with # are remarks. `Play.run` says which commands exist;
each is a method here. Called by `test_scenarios.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from esnode.raft.messages import HardState, Role

from . import telling
from .disk import Image
from .network import Network
from .solo import entries_of

SEPARATOR = "----"


@dataclass(frozen=True, slots=True)
class Block:
    """Remarks and commands, and what they print."""

    head: tuple[str, ...]
    printed: tuple[str, ...] | None
    """None: a block of prose, without commands."""

    @property
    def commands(self) -> tuple[str, ...]:
        return tuple(line for line in self.head if not line.startswith("#"))

    def __str__(self) -> str:
        lines = list(self.head)
        if self.printed is not None:
            lines += [SEPARATOR, *self.printed]
        return "\n".join(lines) + "\n"


def read(path: Path) -> list[Block]:
    """The blocks of a file."""
    return list(_blocks(path.read_text(encoding="utf-8")))


def _blocks(text: str) -> Iterator[Block]:
    for part in text.strip().split("\n\n"):
        lines = part.strip("\n").split("\n")
        if SEPARATOR in lines:
            at = lines.index(SEPARATOR)
            yield Block(tuple(lines[:at]), tuple(lines[at + 1 :]))
        elif all(line.startswith("#") for line in lines):
            yield Block(tuple(lines), None)
        else:
            yield Block(tuple(lines), ())


def play(blocks: list[Block]) -> list[Block]:
    """The same blocks with what their commands print now."""
    stage = Play()
    return [
        block if block.printed is None else Block(block.head, tuple(stage.run(block.commands)))
        for block in blocks
    ]


class Play:
    """One story under way."""

    def __init__(self) -> None:
        self.network = Network(1)
        self._copies: dict[int, Image] = {}
        self._lines: list[str] = []
        self._silent = False

    def run(self, commands: tuple[str, ...]) -> list[str]:
        """Carry out `commands`; returns what happened, or `ok` when there is nothing to tell."""
        self._lines = []
        for command in commands:
            verb, *words = command.split()
            self._silent = verb == "quietly"
            if self._silent:
                verb, *words = words
            method: Callable[..., None] = getattr(self, f"_{verb.replace('-', '_')}")
            method(*words)
        return self._lines or ["ok"]

    def _print(self, line: str) -> None:
        if not self._silent:
            self._lines.append(line)

    # --- the stage -----------------------------------------------------------------------------

    def _nodes(self, voters: str, cache_bytes: str = "1000000") -> None:
        """nodes VOTERS [CACHE_BYTES]: start a cluster; node n always draws 10 n as its random number."""
        self._silent = True
        self.network = Network(int(voters), cache_bytes=int(cache_bytes), tell=self._print)

    def _plant(self, node_id: str, term: str, *terms: str) -> None:
        """plant ID TERM T...: begin with this term, and a log of entries of terms T..."""
        self._silent = True
        entries = entries_of([int(word) for word in terms])
        self.network.plant(int(node_id), entries, HardState(int(term), None))

    def _crash(self, node_id: str, *keep: str) -> None:
        """crash ID [keep N]: kill -9; the first N waiting writes had reached the disk."""
        self.network.crash(int(node_id), int(keep[1]) if keep else 0)

    def _copy(self, node_id: str) -> None:
        """copy ID: keep an image of what is durable on its disk."""
        self._copies[int(node_id)] = self.network.nodes[int(node_id)].disk.image()

    def _lose(self, node_id: str, *copy: str) -> None:
        """lose ID [to copy]: kill -9, and its disk is empty, or is the copy again."""
        self.network.lose_disk(int(node_id), self._copies[int(node_id)] if copy else None)

    def _restart(self, node_id: str) -> None:
        self.network.start(int(node_id))
        self._log(node_id)

    # --- time ----------------------------------------------------------------------------------

    def _tick(self, node_id: str, elapsed_ms: str) -> None:
        self.network.tick(int(node_id), int(elapsed_ms))

    def _wait(self, elapsed_ms: str) -> None:
        """wait MS: time passes everywhere, and everything arrives."""
        self.network.pass_time(int(elapsed_ms))

    def _campaign(self, node_id: str) -> None:
        """campaign ID: time passes on a node until it asks for votes."""
        self.network.campaign(int(node_id))

    def _beat(self, node_id: str) -> None:
        self.network.beat(int(node_id))

    # --- requests ------------------------------------------------------------------------------

    def _propose(self, node_id: str, *names: str) -> None:
        self.network.propose(int(node_id), *names)

    def _many(self, node_id: str, times: str, with_: str, peer: str) -> None:
        """many ID TIMES with PEER: so many events, one by one, while only one follower answers."""
        assert with_ == "with"
        leader, follower = int(node_id), int(peer)
        for number in range(int(times)):
            self.network.propose(leader, f"n{number}")
            self.network.persist(leader)
            self.network.deliver((leader, follower))
            self.network.persist(follower)
            self.network.deliver((follower, leader))

    def _read(self, node_id: str) -> None:
        self.network.read(int(node_id))

    def _transfer(self, node_id: str, *to: str) -> None:
        """transfer ID [to ID]"""
        self.network.transfer(int(node_id), int(to[1]) if to else None)

    # --- disks and wires -----------------------------------------------------------------------

    def _persist(self, node_id: str, writes: str = "1000000") -> None:
        """persist ID [N]: the first N waiting writes are durable."""
        self.network.persist(int(node_id), int(writes))

    def _cut(self, node_id: str) -> None:
        """cut ID: a snapshot takes the place of all applied entries."""
        self.network.cut_prefix(int(node_id))

    def _deliver(self, *links: str) -> None:
        """deliver [A->B ...]: what is under way now arrives."""
        if not links:
            self.network.deliver()
        for link in links:
            self.network.deliver(_link(link))

    def _drop(self, *links: str) -> None:
        if not links:
            self.network.drop()
        for link in links:
            self.network.drop(_link(link))

    def _duplicate(self, link: str) -> None:
        """duplicate A->B: the oldest message on the link arrives, and will arrive again."""
        position = [envelope.link for envelope in self.network.pool].index(_link(link))
        self.network.deliver_one(position, keep=True)

    def _pool(self) -> None:
        """What is under way."""
        for envelope in self.network.pool:
            self._print(str(envelope))

    def _settle(self) -> None:
        """Everything becomes durable and arrives, until nothing moves."""
        self.network.settle()

    def _isolate(self, node_id: str) -> None:
        self.network.isolate(int(node_id))

    def _sever(self, link: str) -> None:
        self.network.sever(*_link(link))

    def _heal(self) -> None:
        self.network.heal()

    def _close(self, node_id: str) -> None:
        """close ID: every other node sees its connections close."""
        self.network.close(int(node_id))

    def _connect(self, node_id: str, to: str, peer: str) -> None:
        """connect ID to PEER: a new connection is up."""
        assert to == "to"
        self.network.connect(int(node_id), int(peer))

    def _unreachable(self, node_id: str, peer: str) -> None:
        self.network.unreachable(int(node_id), int(peer))

    # --- a look --------------------------------------------------------------------------------

    def _status(self) -> None:
        for node in self.network.nodes.values():
            self._log(str(node.id))

    def _log(self, node_id: str) -> None:
        """The entries after the prefix, and how far each node is."""
        node = self.network.nodes[int(node_id)]
        if not node.up:
            self._print(f"{node_id} is down")
            return
        log = node.core.log
        places = f"committed {log.committed}, durable {log.durable}, applied {log.applied}"
        terms = " ".join(f"{n}@{log.term_at(n)}" for n in range(log.prefix_index, log.last_index + 1))
        doubt = " (rejoining)" if node.core.rejoining else ""
        self._print(f"{node_id}{doubt} is {node.core.role.value} in term {node.core.term}: {terms}; {places}")

    def _followers(self, node_id: str) -> None:
        """What the leader knows of its followers."""
        leadership = self.network.core(int(node_id)).leadership
        assert leadership is not None
        for peer, progress in leadership.progress.items():
            asked = ", waits for an answer" if progress.awaits_reply else ""
            places = f"match {progress.match_index}, next {progress.next_index}"
            self._print(f"{peer}: {progress.state.value}, {places}{asked}")

    def _leader(self) -> None:
        leader = self.network.leader()
        self._print(f"leader: {leader}")
        assert leader is None or self.network.core(leader).role is Role.LEADER

    def _entries(self, node_id: str) -> None:
        """The durable entries of a node."""
        self._print(telling.entries(self.network.nodes[int(node_id)].disk.entries.values()))


def _link(text: str) -> tuple[int, int]:
    sender, to = text.split("->")
    return int(sender), int(to)
