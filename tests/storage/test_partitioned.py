"""A data directory that is shared out among partitions, and what keeps its parts apart."""

from dataclasses import replace
from errno import EIO
from pathlib import Path

import pytest

from esnode.config import Config
from esnode.errors import DamagedRecord, DirectoryInUse, NewerFormat, StorageFailed, WrongDirectory
from esnode.raft.messages import HardState, Write
from esnode.storage.identity import PARTITIONS_FILE, Partitions, read_partitions
from esnode.storage.partitioned import hold_partitions
from esnode.storage.place import DirectoryPlace, place_of
from tests.test_config import three_nodes


@pytest.mark.parametrize("engine", ["sqlite", "segments"])
def test_the_directory_of_one_partition_is_not_that_of_another(tmp_path: Path, engine: str) -> None:
    config = replace(three_nodes(tmp_path), partitions=3, storage=engine)
    first, second = (config.of_partition(partition) for partition in (1, 2))
    place_of(first).open().close()
    first.data_dir.rename(second.data_dir)
    with pytest.raises(WrongDirectory, match="holds partition 1, not partition 2"):
        place_of(second).open()
    with pytest.raises(WrongDirectory, match="holds partition 1, not partition 0"):
        place_of(replace(config, data_dir=second.data_dir)).open()
    second.data_dir.rename(first.data_dir)
    place_of(first).open().close()


def test_a_directory_without_partitions_says_nothing_of_them(tmp_path: Path) -> None:
    """Versions from before there were partitions wrote the same."""
    config = three_nodes(tmp_path)
    place_of(config).open().close()
    assert "partition" not in (config.data_dir / "identity.json").read_text(encoding="utf-8")
    assert not (config.data_dir / PARTITIONS_FILE).exists()


def test_a_node_without_partitions_makes_no_empty_log_beside_them(tmp_path: Path) -> None:
    config = three_nodes(tmp_path)
    with hold_partitions(config.data_dir, 4):
        pass
    before = {path.name for path in config.data_dir.iterdir()}
    place = place_of(config)
    assert isinstance(place, DirectoryPlace)
    for use in (place.open, place.trust_copy):
        with pytest.raises(WrongDirectory, match="is in 4 partitions") as refusal:
            use()
        assert "`partitions = 4`" in refusal.value.next_step
    assert {path.name for path in config.data_dir.iterdir()} == before


def written(config: Config) -> bytes:
    """A log with a term, of a node with one partition; the name of its directory."""
    storage = place_of(config).open()
    storage.write([Write(1, None, HardState(7, 2), (), 0)])
    storage.close()
    return storage.directory


@pytest.mark.parametrize("engine", ["sqlite", "segments"])
def test_the_log_of_a_node_with_one_partition_becomes_that_of_partition_0(
    tmp_path: Path, engine: str
) -> None:
    config = replace(three_nodes(tmp_path), storage=engine)
    name = written(config)
    own = config.data_dir / "notes.txt"
    own.write_text("an operator's own", encoding="utf-8")
    for partitions in (2, 2, 5):
        with hold_partitions(config.data_dir, partitions):
            storage = place_of(config.of_partition(0)).open()
            assert storage.recover().hard_state == HardState(7, 2)
            assert storage.directory == name
            storage.close()
    assert own.exists()
    assert read_partitions(config.data_dir) == Partitions(5)


def test_a_move_of_the_log_that_was_cut_off_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = three_nodes(tmp_path)
    written(config)
    rename, moved = Path.rename, list[Path]()

    def rename_two(path: Path, to: Path) -> Path:
        if len(moved) == 2:
            raise OSError(EIO, "the power fails")
        moved.append(path)
        return rename(path, to)

    with monkeypatch.context() as cut_off:
        cut_off.setattr(Path, "rename", rename_two)
        with pytest.raises(StorageFailed):
            hold_partitions(config.data_dir, 2).__enter__()
    assert len(moved) == 2
    with pytest.raises(WrongDirectory, match="is in 2 partitions"):
        place_of(config).open()
    with hold_partitions(config.data_dir, 2):
        storage = place_of(config.of_partition(0)).open()
        assert storage.recover().hard_state == HardState(7, 2)
        storage.close()


def test_there_may_be_more_partitions_than_before_and_never_fewer(tmp_path: Path) -> None:
    for partitions in (2, 2, 4):
        with hold_partitions(tmp_path / "data", partitions):
            pass
    with pytest.raises(WrongDirectory, match="is in 4 partitions, and the file says 3"):
        hold_partitions(tmp_path / "data", 3).__enter__()


def test_one_process_holds_the_directory_at_a_time(tmp_path: Path) -> None:
    with hold_partitions(tmp_path / "data", 2), pytest.raises(DirectoryInUse):
        hold_partitions(tmp_path / "data", 2).__enter__()
    with hold_partitions(tmp_path / "data", 2):
        pass


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("", DamagedRecord),
        ("{}", DamagedRecord),
        ('{"partitions": "2"}', DamagedRecord),
        ('{"partitions": 2, "format": 9}', NewerFormat),
    ],
)
def test_what_cannot_be_read_is_not_taken_for_a_new_directory(
    tmp_path: Path, content: str, error: type[Exception]
) -> None:
    (tmp_path / PARTITIONS_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(error):
        hold_partitions(tmp_path, 2).__enter__()
    assert (tmp_path / PARTITIONS_FILE).read_text(encoding="utf-8") == content
