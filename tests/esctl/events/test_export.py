"""An export into a database: where it goes on, and what several partitions change."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlite_utils import Database as SQLite

from esctl.errors import ExportOfAnother
from esctl.events.export import Database, open_database
from esnode.client import StoredEvent
from tests.esctl.situations import CLUSTER

FOUR = replace(CLUSTER, partitions=4)


def stored(partition: int, offset: int) -> StoredEvent:
    return StoredEvent(offset, {"id": f"{partition}-{offset}", "source": "/s", "type": "t"}, partition)


def put(database: Database, partition: int, *offsets: int) -> None:
    for offset in offsets:
        database.put(stored(partition, offset), 5)
    database.reached(partition, offsets[-1] + 1)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SQLite]:
    with_path = SQLite(tmp_path / "events.db")
    yield with_path
    with_path.close()


@pytest.fixture
def path(tmp_path: Path, file: SQLite) -> Path:
    return tmp_path / "events.db"


def test_with_one_partition_a_row_has_no_partition(path: Path, file: SQLite) -> None:
    with open_database(path, CLUSTER, []) as database:
        assert database.next_offsets == {}
        put(database, 0, 3, 4)
    assert "partition" not in file["events"].columns_dict
    assert list(file["export"].rows) == [{"cluster": CLUSTER.identity, "next_offset": 5}]
    with open_database(path, CLUSTER, []) as database:
        assert database.next_offsets == {0: 5}


def test_each_partition_goes_on_where_it_was_and_may_have_the_same_offsets(path: Path, file: SQLite) -> None:
    with open_database(path, FOUR, []) as database:
        put(database, 1, 0, 1)
        put(database, 3, 0)
        put(database, 1, 2)
    assert [(row["partition"], row["offset"]) for row in file["events"].rows] == [
        (1, 0), (1, 1), (3, 0), (1, 2),
    ]  # fmt: skip
    with open_database(path, FOUR, []) as database:
        assert database.next_offsets == {1: 3, 3: 1}
        put(database, 1, 1)
    assert file["events"].count == 4, "what is there already is replaced"


def test_a_database_begun_with_one_partition_goes_on_with_several(path: Path, file: SQLite) -> None:
    with open_database(path, CLUSTER, []) as database:
        put(database, 0, 0, 1)
    with open_database(path, FOUR, []) as database:
        assert database.next_offsets == {0: 2}
        put(database, 2, 0, 1)
    assert [(row["partition"], row["id"]) for row in file["events"].rows] == [
        (0, "0-0"), (0, "0-1"), (2, "2-0"), (2, "2-1"),
    ]  # fmt: skip
    assert file.table("events").pks == ["partition", "offset"]
    assert {index.name for index in file.table("events").indexes} >= {"events_by_key", "events_by_type"}


def test_a_log_that_was_restored_before_any_partitions_end_is_refused(path: Path, file: SQLite) -> None:
    with open_database(path, FOUR, []) as database:
        put(database, 1, 9)
        put(database, 2, 1)
    restored = replace(FOUR, identity="another-1")
    with open_database(path, restored, [(FOUR.identity, 10)]) as database:
        assert database.next_offsets == {1: 10, 2: 2}
    with pytest.raises(ExportOfAnother), open_database(path, restored, [(FOUR.identity, 9)]):
        pass
