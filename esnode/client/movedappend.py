"""An append whose sources have moved: its events go to their owners under a newer ring, in a part for each.

Decides what the parts know of earlier sendings, and what the whole is told of the parts. It is settled when
all of them are, so whoever waits for it, or gives it up, need not know. Used by `log.py`, which finds the
owners.
"""

from collections.abc import Mapping, Sequence

from esnode.client.dispatcher import Dispatcher
from esnode.client.request import Request
from esnode.dedup.batch import select
from esnode.messages import Appended


class MovedAppend:
    """The parts of `whole`, by partition: not submitted yet. `places` are those of each part's events.

    `whole` may have been sent to `old_partition`, and is with no dispatcher any more.
    """

    def __init__(
        self,
        whole: Request,
        old_partition: int,
        places: Mapping[int, Sequence[int]],
        homes: Mapping[int, Dispatcher],
    ) -> None:
        assert whole.batch is not None
        self.parts: dict[int, Request] = {}
        self.returned: set[int] = set()
        """Partitions whose part was sent there first, and elsewhere since: one stamp cannot tell of both."""
        self._whole = whole
        self._homes = homes
        self._also_on_settled = whole.on_settled
        for partition, of_it in places.items():
            batch = whole.batch if len(places) == 1 else select(whole.batch, of_it)
            part = self.parts[partition] = Request(homes[partition].next_id(), Appended, batch=batch)
            part.sends, part.unsure, part.sent_after = whole.sends, whole.unsure, whole.sent_after
            if whole.unsure:
                sent_to = old_partition if whole.sent_to is None else whole.sent_to
                part.sent_to = None if sent_to == partition else sent_to
            if whole.unsure and whole.sent_to == partition:
                self.returned.add(partition)
            part.on_sent, part.on_settled, part.on_refused = self._sent, self._part_settled, self._refused
        whole.parts_elsewhere = [(of_it, self.parts[partition]) for partition, of_it in places.items()]
        whole.on_settled = self._whole_settled
        whole.sequence = whole.stamped = None

    def _sent(self) -> None:
        on_sent, self._whole.on_sent = self._whole.on_sent, None
        if on_sent is not None:
            on_sent()

    def _refused(self, _part: Request) -> None:
        if self._whole.on_refused is not None and not self._whole.done.is_set():
            self._whole.on_refused(self._whole)

    def _part_settled(self) -> None:
        whole, parts = self._whole, list(self.parts.values())
        if whole.done.is_set() or not all(part.done.is_set() for part in parts):
            return
        answers = [part.answer for part in parts if isinstance(part.answer, Appended)]
        if len(answers) == len(parts):
            ranges = tuple(one for answer in answers for one in answer.ranges)
            whole.settle(Appended(whole.id, ranges, sum(answer.duplicates for answer in answers)), None)
            return
        error = next((part.error for part in parts if part.error is not None), None)
        if error is not None:
            error.definite = all(part.error is not None and part.error.definite for part in parts)
        whole.settle(None, error)

    def _whole_settled(self) -> None:
        """It is over, or nobody waits any more: so are the parts."""
        if self._also_on_settled is not None:
            self._also_on_settled()
        for partition, part in self.parts.items():
            self._homes[partition].abandon(part)
            self._whole.unsure |= part.may_be_done
            self._whole.sends = max(self._whole.sends, part.sends)
            self._whole.refusal = part.refusal or self._whole.refusal
