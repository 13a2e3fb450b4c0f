"""The configuration: what is read back, and what is refused by name."""

from dataclasses import replace
from pathlib import Path

import pytest

from esnode.config import Address, Config, Dedup, Ingest, Member, Retention, dump, load, parse_address
from esnode.errors import InvalidConfig


def three_nodes(tmp_path: Path) -> Config:
    members = tuple(
        Member(n, Address("127.0.0.1", 7200 + n), Address("127.0.0.1", 7100 + n)) for n in (1, 2, 3)
    )
    return Config(cluster="main", node_id=2, data_dir=tmp_path / "data", members=members)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_configuration_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    config = three_nodes(tmp_path)
    assert load(written(tmp_path, dump(config))) == config


def test_a_name_with_quotes_and_control_characters_survives(tmp_path: Path) -> None:
    config = three_nodes(tmp_path)
    odd = Config(
        'a "b" \\ \t c', 1, config.data_dir, config.members, retention=Retention(bytes=5), ingest=Ingest(True)
    )
    assert load(written(tmp_path, dump(odd))) == odd


def test_one_partition_is_not_written_down_and_several_are(tmp_path: Path) -> None:
    """Versions that know no partitions read the files of clusters without."""
    config = three_nodes(tmp_path)
    assert "partitions = " not in dump(config)
    assert "leaders = " not in dump(config)
    several = replace(config, partitions=64, leaders="free")
    assert load(written(tmp_path, dump(several))) == several


def test_each_partition_has_a_directory_of_its_own(tmp_path: Path) -> None:
    config = replace(three_nodes(tmp_path), partitions=4).of_partition(3)
    assert config.partition == 3
    assert config.partitions == 4
    assert config.data_dir == tmp_path / "data" / "partition-3"


def test_a_file_from_before_max_bytes_means_as_many_keys_as_it_did(tmp_path: Path) -> None:
    text = dump(three_nodes(tmp_path))
    older = load(written(tmp_path, text.replace(MAX_BYTES, "max_keys = 2000000")))
    assert older.dedup == Dedup(max_bytes=48_000_000)
    assert older.dedup.max_keys == 2_000_000
    assert "max_bytes = 48000000" in dump(older)
    assert load(written(tmp_path, dump(older))) == older


def test_ten_minutes_at_sixty_thousand_events_a_second_fit_the_default() -> None:
    assert Dedup().max_keys >= 2 * 600 * 60_000


def test_a_window_without_a_time_to_live_can_be_configured(tmp_path: Path) -> None:
    text = dump(three_nodes(tmp_path)).replace("ttl_ms = 600000", "ttl_ms = 0")
    assert load(written(tmp_path, text)).dedup == Dedup(ttl_ms=0)


def test_a_data_directory_is_relative_to_the_file(tmp_path: Path) -> None:
    text = dump(three_nodes(tmp_path)).replace(str(tmp_path / "data"), "here")
    assert load(written(tmp_path, text)).data_dir == tmp_path / "here"


def test_a_node_finds_its_own_line_and_its_peers(tmp_path: Path) -> None:
    config = three_nodes(tmp_path)
    assert config.me.id == 2
    assert [peer.id for peer in config.peers] == [1, 3]


MAX_BYTES = "max_bytes = 2400000000"
REFUSES = f'ttl_ms = 600000\n{MAX_BYTES}\nwhen_full = "shrink"'


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("node_id = 2", "node_id = 9", "not among the members"),
        ("node_id = 2", "", "node_id is missing"),
        ("node_id = 2", 'node_id = "2"', "node_id must be of type int"),
        ("node_id = 2", "node_id = true", "node_id must be of type int"),
        ("node_id = 2", "node_id = 2\nspeed = 9", "unknown key speed"),
        ("node_id = 2", "node_id = 2\npartition = 0", "unknown key partition"),
        ("node_id = 2", "node_id = 2\npartitions = 0", "partitions must be from 1 to 64"),
        ("node_id = 2", "node_id = 2\npartitions = 65", "partitions must be from 1 to 64"),
        ("node_id = 2", 'node_id = 2\nleaders = "one"', "leaders is 'one'; it must be one of spread, free"),
        ("[raft]", "[raft]\ncolour = 1", "unknown key raft.colour"),
        ("heartbeat_ms = 150", "heartbeat_ms = 450", "less than raft.election_ms"),
        ("jitter_ms = 150", "jitter_ms = 0", "jitter_ms must be at least 1"),
        ('storage = "sqlite"', 'storage = "paper"', "storage is 'paper'"),
        ('log_level = "info"', 'log_level = "loud"', "log_level is 'loud'"),
        ('when_full = "shrink"', 'when_full = "panic"', "dedup.when_full is 'panic'"),
        ("verify_keys = false", "verify_keys = 0", "ingest.verify_keys must be of type bool"),
        (MAX_BYTES, "max_bytes = 24575", "dedup.max_bytes must be from 24576 to 6000000000; a key takes 24"),
        (MAX_BYTES, "max_bytes = 6000000001", "dedup.max_bytes must be from 24576 to"),
        (MAX_BYTES, 'max_bytes = "2 GB"', "dedup.max_bytes must be of type int"),
        (MAX_BYTES, "max_keys = 1", "dedup.max_keys must be from 1024 to 250000000; max_bytes has taken"),
        (MAX_BYTES, "max_keys = 250000001", "dedup.max_keys must be from 1024 to 250000000; max_bytes has"),
        (MAX_BYTES, 'max_keys = "1"', "dedup.max_keys must be of type int; max_bytes has taken its place"),
        (MAX_BYTES, f"{MAX_BYTES}\nmax_keys = 5000", "older form of dedup.max_bytes: give only max_bytes"),
        ("ttl_ms = 600000", "ttl_ms = -1", "dedup.ttl_ms must be from 0"),
        (REFUSES, 'ttl_ms = 0\nwhen_full = "refuse"', "needs a dedup.ttl_ms over 0"),
        ('cluster = "main"', 'cluster = ""', "cluster must be a name"),
        ("age_ms = 0", "age_ms = -1", "cannot be negative"),
        ("check_every_ms = 10000", "check_every_ms = 1", "at least 10"),
        ("127.0.0.1:7203", "127.0.0.1:7202", "share an address"),
        ("127.0.0.1:7203", "nowhere", "not an address"),
        ("127.0.0.1:7203", "127.0.0.1:99999", "not an address"),
        ("\nid = 3", "\nid = 1", "needs its own id"),
        ("\nid = 3", "\nid = 3\ncolour = 1", "unknown key members[3].colour"),
        ('cluster = "main"', "cluster = main", "is not TOML"),
        ('cluster = "main"', f"cluster = {'[' * 500}", "is not TOML"),
        ('cluster = "main"', f"cluster = {'9' * 5000}", "is not TOML"),
        ("\nid = 3", "\nid = 4294967296", "from 1 to 4294967295"),
        ("ttl_ms = 600000", "ttl_ms = 99999999999999999999", "dedup.ttl_ms must be from 0 to"),
        ("age_ms = 0", f"age_ms = 1{'0' * 400}", "retention.age_ms cannot be over"),
        ("jitter_ms = 150", f"jitter_ms = 1{'0' * 400}", "raft.jitter_ms cannot be over"),
        ("/data", "/da\\u0000ta", "data_dir is not a path"),
        ("127.0.0.1:7203", "a..b:7203", "not an address"),
        ("127.0.0.1:7203", f"{'a' * 64}:7203", "not an address"),
        ("127.0.0.1:7203", "[]:7203", "not an address"),
        ("127.0.0.1:7203", "a\\u0000:7203", "not an address"),
        ("127.0.0.1:7203", f"127.0.0.1:{'7' * 5000}", "not an address"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(tmp_path: Path, old: str, new: str, reason: str) -> None:
    text = dump(three_nodes(tmp_path))
    assert old in text
    with pytest.raises(InvalidConfig, match=r"node\.toml") as caught:
        load(written(tmp_path, text.replace(old, new, 1)))
    assert reason in str(caught.value)


def test_the_home_of_nobody_is_refused(tmp_path: Path) -> None:
    text = dump(three_nodes(tmp_path)).replace(str(tmp_path / "data"), "~no-such-user/data")
    with pytest.raises(InvalidConfig, match="data_dir is not a path"):
        load(written(tmp_path, text))


def test_an_even_number_of_nodes_is_refused(tmp_path: Path) -> None:
    config = three_nodes(tmp_path)
    text = dump(Config("main", 2, config.data_dir, config.members[:2]))
    with pytest.raises(InvalidConfig, match="must be odd"):
        load(written(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"nothing\.toml cannot be read: No such file"):
        load(tmp_path / "nothing.toml")


def test_an_ipv6_address_is_understood() -> None:
    assert parse_address("[::1]:7101") == Address("::1", 7101)
