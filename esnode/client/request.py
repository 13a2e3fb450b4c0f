"""One request on its way: it keeps its bytes, so that it can be sent again, until it is answered.

Decides nothing; `dispatcher.py` moves it, the task that waits for it abandons it.
"""

from collections.abc import Callable, Sequence

import trio

from esnode.client.acks import Ack
from esnode.dedup.batch import Batch
from esnode.errors import EventStreamError
from esnode.messages import NodeReply


class Request:
    """A request and, later, its answer or error.

    `parts` are those of its frame. `batch` is what it appends, if it does, and `stamped` that as it is sent.
    With neither of these it waits for a node that answers, whatever that says.
    `expects` is the type of its answer. `anywhere`: any node may answer, not only the leader.
    `once`: it is not sent again when its connection breaks. `turn` counts the nodes that could not answer.
    """

    __slots__ = (
        "acks",
        "answer",
        "anywhere",
        "batch",
        "done",
        "error",
        "expects",
        "id",
        "on_refused",
        "on_sent",
        "on_settled",
        "once",
        "parts",
        "parts_elsewhere",
        "refusal",
        "refusals",
        "retry_at",
        "sends",
        "sent_after",
        "sent_on",
        "sent_to",
        "sequence",
        "session",
        "stamped",
        "stray",
        "turn",
        "unsure",
        "waiters",
        "wanted_in",
        "wanted_sequence",
    )

    def __init__(
        self,
        request_id: int,
        expects: type[NodeReply],
        *,
        parts: Sequence[bytes] = (),
        batch: Batch | None = None,
        anywhere: bool = False,
        once: bool = False,
        on_sent: Callable[[], None] | None = None,
    ) -> None:
        self.id = request_id
        self.expects = expects
        self.parts = parts
        self.batch = batch
        self.stamped: Batch | None = None
        """Its batch with its place in the producer session; None while it may not be sent yet."""
        self.anywhere = anywhere
        self.once = once
        self.on_settled: Callable[[], None] | None = None
        """Called once, when it is answered or given up."""
        self.on_sent = on_sent
        """Called once, when it leaves for a node for the first time."""
        self.on_refused: Callable[[Request], None] | None = None
        """Called once, when a node has refused it for good, before those are told who wait for it."""
        self.sequence: int | None = None
        """The number of its first event in the producer session, once it has one."""
        self.session = 0
        """The id of the producer session in which it has that number."""
        self.wanted_sequence: int | None = None
        """The number that it must have; None: the next one."""
        self.wanted_in = 0
        """The id of the session that has given the event this number before; 0: the application wants it."""
        self.sends = 0
        self.sent_after = 0
        """Where the log was known to end when it left for the first time; nothing of it is before that."""
        self.sent_to: int | None = None
        """The partition whose log that was, if it was another one."""
        self.stray = False
        """Some of its events are of other partitions, under a ring that is newer than its routing."""
        self.parts_elsewhere: Sequence[tuple[Sequence[int], Request]] = ()
        """Where it has moved: the places of events in its batch, and the request that they are in."""
        self.sent_on: int | None = None
        """The number of the connection on which an answer is due."""
        self.refusals = 0
        self.retry_at = 0.0
        """When it may go again that was refused; appends go by their run."""
        self.turn = 0
        self.unsure = False
        """An earlier sending was never answered: it may have been done, or be done yet."""
        self.refusal: EventStreamError | None = None
        """What the last node said that refused it, while it was still tried."""
        self.waiters = 1
        self.acks: list[Ack] | None = None
        """The answer, one event at a time: made by the first of those who wait for it."""
        self.answer: NodeReply | None = None
        self.error: EventStreamError | None = None
        self.done = trio.Event()

    @property
    def certainly_not_done(self) -> bool:
        """It was given up, and each time that it was sent it was refused for certain."""
        return self.done.is_set() and self.answer is None and self.sent_on is None and not self.unsure

    @property
    def may_be_done(self) -> bool:
        """It is in the log, or may be."""
        return self.answer is not None or self.sent_on is not None or self.unsure

    @property
    def is_given_up(self) -> bool:
        """Nobody waited for it any more."""
        return self.done.is_set() and self.answer is None and self.error is None

    async def wait(self) -> NodeReply:
        """The answer; raises the error that it was refused with."""
        await self.done.wait()
        if self.error is not None:
            # Several tasks may wait for one request, and each needs a traceback of its own.
            raise type(self.error)(
                str(self.error), next_step=self.error.next_step, definite=self.error.definite
            )
        assert self.answer is not None
        return self.answer

    async def wait_done(self) -> None:
        """The same for what has no answer."""
        await self.done.wait()
        if self.error is not None:
            await self.wait()

    def settle(self, answer: NodeReply | None, error: EventStreamError | None) -> None:
        """It is answered, refused, or, with neither, given up."""
        if self.done.is_set():
            return
        self.answer, self.error = answer, error
        self.done.set()
        if self.on_settled is not None:
            self.on_settled()
