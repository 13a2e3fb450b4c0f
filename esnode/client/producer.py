"""The producer session of one client: numbers on its batches, by which the log knows them for ever.

Decides when a session is over: when a node does not know it, or misses a number that was given up.
Then a new one is opened, and what is unanswered is numbered again; the keys keep it from being
stored twice. Used by `log.py` when the application asks for a session.
"""

from dataclasses import replace
from typing import Final

import trio

from esnode.client.courier import Courier
from esnode.client.request import Request
from esnode.dedup.batch import Batch, ProducerStamp
from esnode.errors import CallerError, ClusterRestored, OperatorError
from esnode.messages import OpenProducerSession, ProducerOpened
from esnode.wire import encode

OPEN_AGAIN_S: Final = 0.1
"""Between two sessions, and after a refusal to open one."""


class ProducerSession:
    """Stamps batches in the order in which they are first sent."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._opened: ProducerOpened | None = None
        self._sequence = 0
        self._gone = trio.Event()
        courier.stamp = self.stamp
        courier.on_session_gone = self.lose

    def stamp(self, batch: Batch) -> Batch | None:
        """The batch with the next numbers; None while there is no session: `run` sends it then."""
        if self._opened is None:
            return None
        stamp = ProducerStamp(self._opened.producer_id, self._opened.epoch, self._sequence, batch.count)
        self._sequence += batch.count
        return replace(batch, producer=stamp)

    def lose(self) -> None:
        """The session is over: what it has numbered waits for the next one."""
        self._opened = None
        for request in self._courier.pending.values():
            if request.batch is not None:
                request.stamped = None
        self._gone.set()

    async def run(self) -> None:
        """Keep a session open."""
        while True:
            self._gone = trio.Event()
            opened = await self._open()
            self._opened, self._sequence = opened, 0
            self._courier.restamp()
            await self._gone.wait()
            await trio.sleep(OPEN_AGAIN_S)

    async def _open(self) -> ProducerOpened:
        while True:
            request_id = self._courier.next_id()
            parts = (encode(OpenProducerSession(request_id)),)
            request = Request(request_id, ProducerOpened, parts=parts)
            self._courier.submit(request)
            try:
                answer = await request.wait()
            except (CallerError, OperatorError, ClusterRestored):
                await trio.sleep(OPEN_AGAIN_S)
                continue
            assert isinstance(answer, ProducerOpened)
            return answer
