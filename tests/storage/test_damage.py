"""Damage on purpose: a flipped bit is refused, half a record is cut, and who may not be broken is not."""

import json
import random
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from esnode import damage
from esnode.config import Address, Config, Faults, Member, dump
from esnode.errors import DamagedRecord, DirectoryInUse, FaultsNotAllowed, NothingToDamage
from esnode.storage.directory import trust_copy
from esnode.storage.engines import open_storage
from esnode.storage.interface import Identity, Storage
from tests.storage.logs import WHOLE, all_of, entries, write

LAST = 30


@pytest.fixture(params=["sqlite", "segments", "rocksdb"])
def config(request: pytest.FixtureRequest, quick_path: Path) -> Config:
    """Node 1, stopped, with a log in which all but the last entry is known to be acked."""
    member = Member(1, Address("127.0.0.1", 7201), Address("127.0.0.1", 7101))
    made = Config("c", 1, quick_path / "data", (member,), storage=request.param, faults=Faults(allowed=True))
    with closing(opened(made)) as storage:
        storage.write([write(entries(1, [2] * (LAST - 1)), commit=0)])
        storage.write([write(entries(LAST, [2], base_offset=2 * LAST - 2), commit=LAST - 1)])
    return made


def opened(config: Config) -> Storage:
    return open_storage(config.storage, config.data_dir, Identity("c", 1))


def test_a_flipped_bit_of_an_acked_entry_is_refused_by_the_storage(config: Config) -> None:
    done = damage.flip(config, random.Random(1))
    assert done["found"]
    assert done["entry"] is None or 1 <= done["entry"] < LAST
    with pytest.raises(DamagedRecord), closing(opened(config)) as storage:  # either may find it
        storage.read(1, LAST, WHOLE)


def test_a_bit_that_is_flipped_twice_is_as_it_was(config: Config) -> None:
    chosen = damage.Flip.drawn(damage.data_files(config.storage, config.data_dir), random.Random(3))
    before = chosen.path.read_bytes()
    assert chosen.carry_out()
    assert chosen.path.read_bytes() != before
    assert chosen.carry_out()
    assert chosen.path.read_bytes() == before


def as_if_killed(config: Config) -> Config:
    """The files of a node that is killed now, with one more entry written."""
    left = replace(config, data_dir=config.data_dir.with_name("left"))
    with closing(opened(config)) as storage:
        storage.write([write(entries(LAST + 1, [2], base_offset=2 * LAST), commit=LAST)])
        shutil.copytree(config.data_dir, left.data_dir)
    trust_copy(left.data_dir, left.storage, Identity("c", 1))
    return left


def test_half_a_record_at_the_end_is_cut_and_nothing_else(config: Config) -> None:
    left = as_if_killed(config)
    done = damage.torn(left)
    assert done["bytes"] > 0
    with closing(opened(config)) as whole, closing(opened(left)) as storage:
        assert all_of(storage.read(1, LAST + 1, WHOLE)) == all_of(whole.read(1, LAST + 1, WHOLE))
        storage.write([write(entries(LAST + 2, [1], base_offset=2 * LAST + 2), commit=LAST)])
        assert storage.recover().last_index == LAST + 2


def test_the_files_of_a_node_that_runs_are_left_alone(config: Config) -> None:
    with closing(opened(config)) as storage:
        before = {path: path.read_bytes() for path in damage.data_files(config.storage, config.data_dir)}
        for harm in (damage.torn, lambda it: damage.flip(it, random.Random(1))):
            with pytest.raises(DirectoryInUse):
                harm(config)
        assert {path: path.read_bytes() for path in before} == before
        assert storage.read(1, LAST, WHOLE)


def test_a_log_without_an_acked_entry_is_left_alone(quick_path: Path) -> None:
    member = Member(1, Address("127.0.0.1", 7201), Address("127.0.0.1", 7101))
    empty = Config("c", 1, quick_path / "data", (member,), faults=Faults(allowed=True))
    with pytest.raises(NothingToDamage):
        damage.flip(empty, random.Random(1))


def test_a_node_that_allows_no_faults_is_left_alone(
    config: Config, quick_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = as_if_killed(config)
    file = quick_path / "node.toml"
    file.write_text(dump(config).replace("allowed = true", "allowed = false"))
    assert damage.main(["--config", str(file), "flip"]) == 1
    assert json.loads(capsys.readouterr().out)["code"] == FaultsNotAllowed.code
    file.write_text(dump(config))
    assert damage.main(["--config", str(file), "--seed", "1", "torn"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] > 0
