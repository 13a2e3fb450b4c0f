"""Places for the tests of storage."""

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.storage.places import DirectoryPlace, Place, place_of


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """A directory in memory where there is one: a sync costs nothing there, and hundreds are made."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as path:
        yield Path(path)


@pytest.fixture(params=["memory", "sqlite", "segments", "small segments", "rocksdb"])
def place(request: pytest.FixtureRequest, quick_path: Path) -> Iterator[Place]:
    """Each engine in turn."""
    with closing(place_of(request.param, quick_path)) as made:
        yield made


@pytest.fixture(params=["sqlite", "segments", "rocksdb"])
def on_disk(request: pytest.FixtureRequest, quick_path: Path) -> Iterator[DirectoryPlace]:
    """Each engine with a data directory in turn."""
    with closing(place_of(request.param, quick_path)) as made:
        assert isinstance(made, DirectoryPlace)
        yield made
