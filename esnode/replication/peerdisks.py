"""Who of the other nodes does not trust its own disk: asked before a damaged log is put aside.

Damage on many nodes at once is not bad luck: a version that reads its log wrongly, an operator's mistake. If
each node put its log aside, nobody would be left to fetch it from. So a node that has found damage hears the
others first, and says of itself that it is not sound: whoever finds damage at the same time hears that too.
Decides nothing (`repair`), and takes part in nothing. Called by `__main__`.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import trio

from esnode import limits
from esnode.config import Config, Member
from esnode.errors import (
    CallerError,
    ConnectionLost,
    EventStreamError,
    OperatorError,
    PeerError,
    Unreachable,
)
from esnode.messages import Hello, Side
from esnode.transport.connection import (
    ByteListener,
    ByteStream,
    Connection,
    Dialer,
    accept,
    greet,
    open_stream,
)
from esnode.transport.sharedsettings import SharedSettings

log = logging.getLogger(__name__)


class PeerDisks:
    """What one node hears of its peers' disks, while it is not running itself."""

    def __init__(self, config: Config, incarnation: int, dial: Dialer = open_stream) -> None:
        self._config = config
        self._shared = SharedSettings(config)
        self._incarnation = incarnation
        self._dial = dial
        self._heard: dict[int, bool] = {}
        """Of each peer that has said so: whether it trusts its disk."""
        self._all_sound = trio.Event()

    async def unsound(self, listeners: Sequence[ByteListener]) -> list[int]:
        """The peers that say that they do not trust their disks, heard on the port for peers.

        Takes as long as it takes to hear that all do; `limits.PEER_DISKS_WINDOW_S` where one does not, or
        says nothing: that one is not among them.
        """
        with trio.move_on_after(limits.PEER_DISKS_WINDOW_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._hear, list(listeners))
                for peer in self._config.peers:
                    nursery.start_soon(self._tell, peer)
                await self._all_sound.wait()
                nursery.cancel_scope.cancel()
        log.info("peers_asked", extra={"sound": {str(peer): sound for peer, sound in self._heard.items()}})
        return sorted(peer for peer, sound in self._heard.items() if not sound)

    async def _hear(self, stream: ByteStream) -> None:
        async with Connection(stream) as connection:
            with suppress(EventStreamError):  # whoever it is: it tries again, when there is a node
                await accept(
                    connection,
                    cluster=self._config.cluster,
                    node_id=self._config.node_id,
                    incarnation=self._incarnation,
                    allowed_side=Side.PEER,
                    peers=[peer.id for peer in self._config.peers],
                    partition=self._config.partition,
                    partitions=self._config.partitions,
                    admit=self._note,
                )

    async def _note(self, hello: Hello) -> None:
        self._heard[hello.node_id] = not hello.rejoining
        if all(self._heard.get(peer.id, False) for peer in self._config.peers):
            self._all_sound.set()
        raise ConnectionLost("this node has found its log damaged, and does not run yet")

    async def _tell(self, peer: Member) -> None:
        """Until it is there. A node that runs refuses, for want of a directory's name, and notes nothing."""
        while True:
            try:
                async with Connection(await self._dial(peer.peer)) as connection:
                    hello = self._shared.hello(peer.id, self._incarnation)
                    await greet(connection, replace(hello, rejoining=True))
            except (Unreachable, ConnectionLost):
                await trio.sleep(limits.PEER_DISKS_PAUSE_S)
            except (PeerError, OperatorError, CallerError):  # a Goodbye may say any of them
                return
