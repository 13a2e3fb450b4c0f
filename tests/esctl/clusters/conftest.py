"""Real clusters that several files of tests begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.esctl.clusters.test_real_cluster import esctl, nodes_below


@pytest.fixture
def one_partition(tmp_path: Path) -> Iterator[str]:
    """A running cluster of one partition, named one; gone after the test, with all its processes."""
    home = tmp_path / "data"
    esctl("cluster", "up", "one", "--data-dir", str(home))
    yield "one"
    esctl("cluster", "destroy", "one", "--confirm", "one")
    assert nodes_below(home) == set()
