"""One call that is made of several, one for each partition that it is about. Used by `log.py`."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from esnode.errors import EventStreamError

T = TypeVar("T")


def once(call: Callable[[], None]) -> Callable[[], None]:
    """`call`, that does nothing from the second time on."""
    calls = [call]
    return lambda: calls.pop()() if calls else None


async def all_of(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """What they return. Raises the first error, once all have ended: definite if nothing can be done."""
    answers: dict[int, T] = {}
    errors: list[EventStreamError] = []

    async def one(number: int) -> None:
        try:
            answers[number] = await calls[number]()
        except EventStreamError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for number in range(len(calls)):
            nursery.start_soon(one, number)
    if errors:
        errors[0].definite = not answers and all(error.definite for error in errors)
        raise errors[0]
    return [answers[number] for number in range(len(calls))]
