"""What people type after `esctl fault`: jumps, drifts and what is held back, and what is refused."""

import pytest

from esctl.errors import InvalidArgument
from esctl.faults import nodeorders


@pytest.mark.parametrize(
    ("text", "by_ms"),
    [("+2h", 7_200_000), ("-30m", -1_800_000), ("1d", 86_400_000), ("90s", 90_000), ("-1500ms", -1_500)],
)
def test_a_jump_goes_forward_or_back(text: str, by_ms: int) -> None:
    assert nodeorders.jump_of(text) == by_ms


@pytest.mark.parametrize("text", ["0s", "999ms", "-1ms", "367d", "soon", "", "+-2h1"])
def test_a_jump_that_could_not_be_seen_or_be_made_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="nothing was done"):
        nodeorders.jump_of(text)


@pytest.mark.parametrize("rate", [0, 501, -501])
def test_a_drift_has_a_bound_and_is_not_nothing(rate: int) -> None:
    with pytest.raises(InvalidArgument):
        nodeorders.drift_of(rate)
    assert nodeorders.drift_of(-50) == -50


def test_how_long_later_messages_may_pass_belongs_to_reordering() -> None:
    kinds = nodeorders.kinds_of({"reorder": "10%"}, None, None, None, stall=False, hold="50ms")
    assert kinds == {"reorder": {"permille": 100, "hold_ms": 50}}
    with pytest.raises(InvalidArgument, match="--reorder"):
        nodeorders.kinds_of({"drop": "10%"}, None, None, None, stall=False, hold="50ms")
