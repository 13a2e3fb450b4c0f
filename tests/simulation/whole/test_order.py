"""The check of a client's order: what it finds, and what it may not say anything of."""

import pytest

from ..outcome import Violation
from .order import Order

A, B, C, D = (bytes([number]) * 16 for number in range(4))


def sent(*calls: tuple[bytes, ...], many: bool = False) -> Order:
    order = Order()
    for keys in calls:
        order.call("c", keys, many=many).acked = True
    return order


def test_events_in_the_order_of_the_calls_are_counted() -> None:
    assert sent((A, B), (C,), (D,)).judge(A + B + C + D) == 4


@pytest.mark.parametrize("log", [B + A + C, C + A + B, A + C + B])
def test_an_event_before_one_that_was_sent_earlier_is_found(log: bytes) -> None:
    with pytest.raises(Violation, match="order of a client"):
        sent((A, B), (C,)).judge(log)


def test_a_later_batch_of_a_list_may_be_behind_the_next_call() -> None:
    assert sent((A, B), (C, D), many=True).judge(A + C + B + D) == 4
    with pytest.raises(Violation, match="order of a client"):
        sent((A, B), (C, D), many=True).judge(C + A + B + D)


def test_a_list_whose_first_event_somebody_else_sent_says_nothing_of_the_next_call() -> None:
    order = sent((A, B), (C,), many=True)
    order.call("another", (A,))
    assert order.judge(A + C + B) == 2


def test_an_event_that_is_left_out_of_a_list_is_found() -> None:
    with pytest.raises(Violation, match="one before it in the same list is not"):
        sent((A, B), many=True).judge(B)
