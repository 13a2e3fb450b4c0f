"""Whole nodes that cannot trust their own disks: damage, lost tails, wiped and copied directories."""

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from esnode.__main__ import main
from esnode.client import connect, connect_node
from esnode.config import Address, Config, Member, dump
from esnode.dedup.batch import event_key
from esnode.errors import (
    CopiedDirectory,
    DamagedRecord,
    InvalidConfig,
    NodeRunsElsewhere,
    Rejoining,
    UnknownDirectory,
)
from esnode.messages import PROTOCOL_VERSION, Hello, Refused, Side, Subscribe
from esnode.raft.entry import Entry
from esnode.storage.interface import Distrust, Identity
from esnode.storage.memory import MemoryDisk
from esnode.storage.place import MemoryPlace, place_of
from esnode.transport.connection import Connection, greet, open_stream
from esnode.upkeep.repair import Repair
from tests.cluster import LocalCluster, local_cluster, three_configs
from tests.storage.places import damage_rocksdb_record, damage_sqlite_record, flip_bit
from tests.test_node import flights, records_of

DAMAGE = {
    "sqlite": damage_sqlite_record,
    "segments": lambda data_dir, index: flip_bit(data_dir / "segments" / "0000000000000001.log", 900 * index),
    "rocksdb": damage_rocksdb_record,
}


def damage_middle(cluster: LocalCluster, node_id: int, index: int = 3) -> None:
    """Flip a bit in a record of a stopped node's log."""
    config = cluster.configs[node_id]
    DAMAGE[config.storage](config.data_dir, index)


def cut_tail(data_dir: Path) -> None:
    """Take away the last write of a stopped node's log, with every checksum right."""
    with closing(sqlite3.connect(data_dir / "log.sqlite")) as connection:
        connection.execute("DELETE FROM entries WHERE number = (SELECT max(number) FROM entries)")
        connection.commit()


async def a_follower(cluster: LocalCluster) -> int:
    leader = await cluster.leader()
    return next(node_id for node_id in cluster.running if node_id != leader)


async def is_sound(cluster: LocalCluster, node_id: int) -> None:
    """Wait until a node trusts its disk, and its storage has noted so."""
    view = cluster.running[node_id].node.view
    while view.rejoining:
        await view.wait_changed()
    worker = cluster.running[node_id].node.worker
    assert not (await worker.call(worker.storage.recover)).rejoining


async def votes(cluster: LocalCluster, node_id: int, events: Sequence[dict[str, Any]]) -> None:
    """See that a majority which needs `node_id` takes events: one of the two others is ended."""
    other = next(each for each in cluster.running if each != node_id)
    await cluster.kill(other)
    await cluster.leader()
    async with connect(cluster.addresses) as log:
        await log.append_many(events)
    await cluster.start(other)


async def hold_the_same(cluster: LocalCluster, count: int) -> None:
    await cluster.applied(count)
    logs = [await records_of(cluster, node_id) for node_id in cluster.running]
    assert logs[0] == logs[1] == logs[2]
    assert len({running.node.machine.digest() for running in cluster.running.values()}) == 1
    assert {running.node.view.next_offset for running in cluster.running.values()} == {count}


def begun(caplog: pytest.LogCaptureFixture) -> list[tuple[str, bool]]:
    """Of each rejoin: the code of its cause, and whether a log was put aside."""
    records = [record.__dict__ for record in caplog.records if record.message == "rejoin_begun"]
    return [(record["code"], bool(record["put_aside"])) for record in records]


# --- damage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["sqlite", "segments", "rocksdb"])
async def test_a_flipped_bit_in_the_log_is_repaired_from_the_other_nodes(
    engine: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if engine == "rocksdb":
        pytest.importorskip("rocksdict")
    events = flights(300)
    async with local_cluster(tmp_path, storage=engine) as cluster:
        async with connect(cluster.addresses, batch_events=10) as log:
            for begin in range(0, 200, 20):  # one after the other: an entry each, at least
                await log.append_many(events[begin : begin + 20])
            ill = await a_follower(cluster)
            await cluster.applied(200)
            await cluster.kill(ill)
            damage_middle(cluster, ill)
            await log.append_many(events[200:250])
        await cluster.start(ill)
        await is_sound(cluster, ill)
        assert begun(caplog) == [(DamagedRecord.code, True)]
        await votes(cluster, ill, events[250:])
        await hold_the_same(cluster, 300)
        data_dir = cluster.configs[ill].data_dir
        assert (data_dir / "damaged-1").is_dir()
        assert not (data_dir / "rejoining").exists()
        async with connect(cluster.addresses) as log:
            assert all(ack.duplicate for ack in await log.append_many(events))
        await cluster.kill(ill)
        await cluster.start(ill)
        assert not cluster.running[ill].node.view.rejoining


async def test_a_lost_tail_is_noticed_and_repaired(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """raft-bugs 19: a node that forgot what it had acked must not elect a leader without it."""
    events = flights(120)
    async with local_cluster(tmp_path) as cluster:
        async with connect(cluster.addresses, batch_events=10) as log:
            await log.append_many(events[:100])
        ill = await cluster.leader()
        await cluster.applied(100)
        await cluster.kill(ill)
        cut_tail(cluster.configs[ill].data_dir)
        await cluster.start(ill)
        await is_sound(cluster, ill)
        assert begun(caplog) == [(DamagedRecord.code, True)]
        await votes(cluster, ill, events[100:])
        await hold_the_same(cluster, 120)


async def test_damage_that_a_read_meets_ends_the_run_and_the_node_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    events = flights(120)
    async with local_cluster(tmp_path) as cluster, connect(cluster.addresses, batch_events=10) as log:
        await log.append_many(events[:100])
        ill = await a_follower(cluster)
        await cluster.applied(100)
        old = cluster.running[ill].node

        def damaged(first_index: int, last_index: int, max_bytes: int) -> list[Entry]:
            raise DamagedRecord(f"the checksum of the record that claims index {first_index} does not match")

        monkeypatch.setattr(old.worker.storage, "read", damaged)
        with pytest.raises(DamagedRecord):
            await old.worker.read(1, 1, 1)
        new = await cluster.wait_run(ill, 2)
        await is_sound(cluster, ill)
        assert new is cluster.running[ill].node
        assert begun(caplog) == [(DamagedRecord.code, True)]
        await votes(cluster, ill, events[100:])
        await hold_the_same(cluster, 120)


# --- directories ------------------------------------------------------------------------------------


async def test_a_wiped_directory_is_noticed_by_the_peers_and_filled_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = flights(120)
    async with local_cluster(tmp_path) as cluster:
        async with connect(cluster.addresses, batch_events=10) as log:
            await log.append_many(events[:100])
        ill = await a_follower(cluster)
        await cluster.applied(100)
        await cluster.kill(ill)
        shutil.rmtree(cluster.configs[ill].data_dir)
        runs = cluster.runs[ill]
        await cluster.start(ill)
        await cluster.wait_run(ill, runs + 2)
        await is_sound(cluster, ill)
        assert begun(caplog) == [(UnknownDirectory.code, False)]
        await votes(cluster, ill, events[100:])
        await hold_the_same(cluster, 120)


async def test_a_disk_in_memory_that_its_process_took_along_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = flights(120)
    async with local_cluster(tmp_path, storage="memory") as cluster:
        async with connect(cluster.addresses, batch_events=10) as log:
            await log.append_many(events[:100])
        ill = await a_follower(cluster)
        await cluster.applied(100)
        await cluster.kill(ill)
        cluster.places[ill] = MemoryPlace(MemoryDisk(b"another process"), Identity("test", ill))
        runs = cluster.runs[ill]
        await cluster.start(ill)
        await cluster.wait_run(ill, runs + 2)
        await is_sound(cluster, ill)
        assert begun(caplog) == [(UnknownDirectory.code, False)]
        await votes(cluster, ill, events[100:])
        await hold_the_same(cluster, 120)


async def put_back_an_old_copy(cluster: LocalCluster, events: Sequence[dict[str, Any]], kept: Path) -> int:
    """Copy a follower's directory, let all nodes go on, and put the copy in its place."""
    old = await a_follower(cluster)
    data_dir = cluster.configs[old].data_dir
    async with connect(cluster.addresses, batch_events=10) as log:
        await log.append_many(events[:50])
        await cluster.applied(50)
        await cluster.kill(old)
        shutil.copytree(data_dir, kept)
        await cluster.start(old)
        await log.append_many(events)
        await cluster.applied(len(events))
    await cluster.kill(old)
    shutil.rmtree(data_dir)
    shutil.copytree(kept, data_dir)
    return old


async def test_an_older_copy_rejoins_and_keeps_what_it_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """raft-bugs 26: a node that was restored from a backup does not vote as if it were current."""
    events = flights(120)
    async with local_cluster(tmp_path) as cluster:
        old = await put_back_an_old_copy(cluster, events[:100], tmp_path / "kept")
        await cluster.start(old)
        await is_sound(cluster, old)
        assert begun(caplog) == [(CopiedDirectory.code, False)]
        await votes(cluster, old, events[100:])
        await hold_the_same(cluster, 120)


async def test_a_copy_that_the_operator_trusts_does_not_rejoin(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with local_cluster(tmp_path) as cluster:
        moved = await a_follower(cluster)
        await cluster.kill(moved)
        data_dir = cluster.configs[moved].data_dir
        shutil.copytree(data_dir, tmp_path / "moved")
        shutil.rmtree(data_dir)
        shutil.copytree(tmp_path / "moved", data_dir)
        await cluster.start(moved, trust_copy=True)
        assert not cluster.running[moved].node.view.rejoining
        await cluster.kill(moved)
        await cluster.start(moved)
        await votes(cluster, moved, flights(10))
        await hold_the_same(cluster, 10)
        assert begun(caplog) == []


@pytest.mark.parametrize("together", [True, False])
async def test_a_cluster_that_was_moved_whole_has_a_way_out(together: bool, tmp_path: Path) -> None:
    """Each node sees a copy before it has talked to anybody; then nobody is sound, and nobody can rejoin."""
    events = flights(120)
    async with local_cluster(tmp_path) as cluster:
        async with connect(cluster.addresses, batch_events=10) as log:
            await log.append_many(events[:100])
        await cluster.applied(100)
        for node_id in list(cluster.running):
            await cluster.kill(node_id)
        for node_id, config in cluster.configs.items():
            shutil.copytree(config.data_dir, tmp_path / f"moved-{node_id}")
            shutil.rmtree(config.data_dir)
            (tmp_path / f"moved-{node_id}").rename(config.data_dir)
        for node_id in cluster.configs:
            await cluster.start(node_id)
            if not together:
                await cluster.kill(node_id)
        for node_id in list(cluster.running):
            running = cluster.running[node_id].node
            assert running.worker.storage.distrust is Distrust.COPY
            while len(running.worker.storage.peer_directories) < 2:
                await trio.testing.wait_all_tasks_blocked(0.01)
            assert running.view.rejoining
        for node_id in list(cluster.running):
            await cluster.kill(node_id)
        for node_id in cluster.configs:
            await cluster.start(node_id, trust_copy=True)
        await votes(cluster, await a_follower(cluster), events[100:])
        await hold_the_same(cluster, 120)
        assert not any(running.node.view.rejoining for running in cluster.running.values())
        async with connect(cluster.addresses) as log:
            assert all(ack.duplicate for ack in await log.append_many(events))


async def test_a_node_rejoins_when_the_operator_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = flights(20)
    async with local_cluster(tmp_path) as cluster:
        async with connect(cluster.addresses) as log:
            await log.append_many(events[:10])
        doubted = await a_follower(cluster)
        await cluster.kill(doubted)
        await cluster.start(doubted, rejoin=True)
        await is_sound(cluster, doubted)
        assert begun(caplog) == [("", False)]
        await votes(cluster, doubted, events[10:])
        await hold_the_same(cluster, 20)


async def test_a_directory_from_before_a_rejoin_is_not_taken_for_the_present_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The original, put back in place: its inode is the right one, its name no longer is."""
    events = flights(100)
    async with local_cluster(tmp_path) as cluster:
        node_id = await a_follower(cluster)
        await cluster.kill(node_id)
        data_dir = cluster.configs[node_id].data_dir
        shutil.copytree(data_dir, tmp_path / "copy")
        data_dir.rename(tmp_path / "original")
        (tmp_path / "copy").rename(data_dir)
        await cluster.start(node_id)
        await is_sound(cluster, node_id)
        async with connect(cluster.addresses) as log:
            await log.append_many(events)
        await cluster.applied(100)
        await cluster.kill(node_id)
        shutil.rmtree(data_dir)
        (tmp_path / "original").rename(data_dir)
        runs = cluster.runs[node_id]
        await cluster.start(node_id)
        await cluster.wait_run(node_id, runs + 2)
        await is_sound(cluster, node_id)
        assert begun(caplog) == [(CopiedDirectory.code, False), (UnknownDirectory.code, False)]
        await hold_the_same(cluster, 100)


@pytest.mark.parametrize("trusted", [False, True], ids=["rejoining", "trusted"])
async def test_a_second_process_of_a_node_is_turned_away_and_the_first_goes_on(
    trusted: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy with other ports, started beside the original: no peer takes it for the node."""
    events = flights(20)
    elsewhere = (await three_configs(tmp_path / "elsewhere", 1))[0].members[0]
    async with local_cluster(tmp_path) as cluster:
        async with connect(cluster.addresses) as log:
            await log.append_many(events[:10])
        await cluster.applied(10)
        await cluster.kill(1)
        shutil.copytree(cluster.configs[1].data_dir, tmp_path / "copy")
        await cluster.start(1)
        await cluster.applied(10)
        second, config = 11, cluster.configs[1]
        members = (elsewhere, *config.members[1:])
        cluster.configs[second] = replace(config, data_dir=tmp_path / "copy", members=members)
        cluster.places[second] = place_of(cluster.configs[second])
        runs, known = cluster.runs[1], {n: peers_of(cluster, n) for n in (2, 3)}
        await cluster.start(second, trust_copy=trusted)
        async with connect_node(str(elsewhere.client)) as link:
            for peer in ("2", "3"):
                while (refused := (await link.status())["peers"][peer]["refused"]) is None:
                    await trio.testing.wait_all_tasks_blocked()
                assert refused["code"] == NodeRunsElsewhere.code
                assert f"answers at {config.me.client}" in refused["reason"]
        await cluster.kill(second)
        del cluster.configs[second]
        assert {n: peers_of(cluster, n) for n in (2, 3)} == known
        await votes(cluster, 1, events[10:])
        await hold_the_same(cluster, 20)
        assert cluster.runs[1] == runs
        assert UnknownDirectory.code not in [code for code, _ in begun(caplog)]


def peers_of(cluster: LocalCluster, node_id: int) -> dict[int, bytes]:
    return dict(cluster.running[node_id].node.worker.storage.peer_directories)


# --- while it rejoins -------------------------------------------------------------------------------


async def test_a_node_that_rejoins_waits_for_all_others_and_serves_no_reads(tmp_path: Path) -> None:
    events = flights(100)
    async with local_cluster(tmp_path) as cluster:
        async with connect(cluster.addresses) as log:
            await log.append_many(events)
        await cluster.applied(100)
        ill = await a_follower(cluster)
        leader = await cluster.leader()
        other = next(each for each in cluster.running if each not in (ill, leader))
        await cluster.kill(ill)
        await cluster.kill(other)
        await cluster.start(ill, rejoin=True)
        async with connect_node(str(cluster.configs[ill].me.client)) as link:
            status = await link.status()
            assert (status["rejoining"], status["role"]) == (True, "follower")
            for linearizable in (False, True):
                with pytest.raises(Rejoining, match="fetching its log"):
                    await link.read(0, 10, linearizable=linearizable)
            with pytest.raises(Rejoining):
                await link.explain_key(event_key("/s", "1"))
            async with Connection(await open_stream(cluster.configs[ill].me.client)) as connection:
                await greet(connection, Hello(Side.CLIENT, PROTOCOL_VERSION, PROTOCOL_VERSION, "", 0, 0, 1))
                await connection.send(Subscribe(7, 0))
                answers = [await connection.receive_one(), await connection.receive_one()]
                assert [each.code for each in answers if isinstance(each, Refused)] == [Rejoining.code]
            async with trio.open_nursery() as nursery:

                async def hear_all() -> None:
                    async with link.subscribe(0) as subscription:
                        while len(heard) < 100:
                            heard.append((await anext(subscription)).offset)

                heard: list[int] = []
                nursery.start_soon(hear_all)
                await cluster.start(other)
                await is_sound(cluster, ill)
            assert heard == list(range(100))
            assert (await link.status())["rejoining"] is False
            await cluster.applied(100)
            assert [stored.offset for stored in await link.read(0, 1000)] == list(range(100))


async def test_a_client_reads_elsewhere_while_a_node_rejoins(tmp_path: Path) -> None:
    """Nobody leads, and the first node that it asks has nothing that it may show."""
    events = flights(30)
    async with local_cluster(tmp_path) as cluster:
        async with connect(cluster.addresses) as log:
            for begin in (0, 10, 20):
                await log.append_many(events[begin : begin + 10])
        await cluster.applied(30)
        for node_id in list(cluster.running):
            await cluster.kill(node_id)
        await cluster.start(1, rejoin=True)
        await cluster.start(2)
        async with connect(cluster.addresses, timeout_s=30) as log:
            stored = await log.read(0, 40, linearizable=False)
            assert [each.event for each in stored] == events[: len(stored)]
            assert len(stored) >= 10


# --- a cluster of one --------------------------------------------------------------------------------


async def test_damage_ends_a_cluster_of_one_and_changes_nothing(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, count=1) as cluster:
        async with connect(cluster.addresses, batch_events=10) as log:
            await log.append_many(flights(100))
        await cluster.kill(1)
        cut_tail(cluster.configs[1].data_dir)
        before = sorted(path.name for path in cluster.configs[1].data_dir.iterdir())
        with pytest.raises(DamagedRecord):
            Repair(cluster.places[1], alone=True).open()
        with pytest.raises(DamagedRecord, match="once"):
            Repair(cluster.places[1], alone=True).after(DamagedRecord("once"))
        with pytest.raises(InvalidConfig, match="no other node has its log"):
            Repair(cluster.places[1], alone=True, rejoin=True)
        assert sorted(path.name for path in cluster.configs[1].data_dir.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "why"),
    [(["--rejoin"], "cannot rejoin"), (["--rejoin", "--trust-copy"], "not allowed with")],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_opened(
    options: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = (Member(1, Address("127.0.0.1", 1), Address("127.0.0.1", 2)),)
    path = tmp_path / "node.toml"
    path.write_text(dump(Config("c", 1, tmp_path / "data", members)))
    try:
        code = main(["--config", str(path), *options])
    except SystemExit as end:  # the parser's own refusal
        code = int(end.code or 0)
    assert code == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


async def test_a_cluster_of_one_goes_on_with_a_copy(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, count=1) as cluster:
        async with connect(cluster.addresses) as log:
            await log.append_many(flights(100))
        await cluster.kill(1)
        data_dir = cluster.configs[1].data_dir
        shutil.copytree(data_dir, tmp_path / "moved")
        shutil.rmtree(data_dir)
        shutil.copytree(tmp_path / "moved", data_dir)
        await cluster.start(1)
        async with connect(cluster.addresses) as log:
            assert len(await log.read(0, 200)) == 100
