"""Numbers of things and lists of nodes, as texts write them."""

import pytest

from esctl.ui.formatting import nodes_named, quantity


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 events"), (1, "1 event"), (2, "2 events"), (27004, "27,004 events")]
)
def test_one_of_a_thing_is_not_written_as_several(count: int, text: str) -> None:
    assert quantity(count, "event") == text


def test_nodes_are_named_in_their_order_and_without_brackets() -> None:
    assert nodes_named({2}) == "node 2"
    assert nodes_named([3, 1]) == "nodes 1, 3"
