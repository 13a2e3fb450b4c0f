"""Nodes whose files differ: who is refused, what is said of it, and how a setting is changed safely."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from esnode.client import connect, connect_node
from esnode.config import Address, Config, Dedup, Member
from esnode.errors import DedupDiffers, MembersChanged, MembersDiffer, ProtocolError
from esnode.limits import MAX_SETTING_BYTES
from esnode.messages import PROTOCOL_VERSION, Hello, Side
from esnode.storage.place import place_of
from esnode.transport.sharedsettings import SharedSettings
from esnode.upkeep.repair import Repair
from tests.cluster import LocalCluster, local_cluster, three_configs
from tests.test_node import flights
from tests.test_rejoin import hold_the_same


def set_to(cluster: LocalCluster, node_id: int, **settings: Any) -> None:
    """Edit the file of a node."""
    config = replace(cluster.configs[node_id], **settings)
    cluster.configs[node_id], cluster.places[node_id] = config, place_of(config)


async def status_of(cluster: LocalCluster, node_id: int) -> dict[str, Any]:
    async with connect_node(str(cluster.configs[node_id].me.client)) as link:
        return await link.status()


async def refused(cluster: LocalCluster, node_id: int, peer: int) -> dict[str, str]:
    """Wait until a node's status says that a peer does not talk to it, and why."""
    while (told := (await status_of(cluster, node_id))["peers"][str(peer)]["refused"]) is None:
        await trio.testing.wait_all_tasks_blocked()
    assert isinstance(told, dict)
    return told


# --- what is compared -------------------------------------------------------------------------------


def config_of(*ids: int, me: int = 1, dedup: Dedup | None = None) -> Config:
    members = tuple(Member(n, Address("a", 2 * n), Address("a", 2 * n + 1)) for n in ids)
    return Config("c", me, Path("unused"), members, dedup=dedup or Dedup())


def hello_of(config: Config) -> Hello:
    ours, version = SharedSettings(config), PROTOCOL_VERSION
    return Hello(
        *(Side.PEER, version, version, "c", config.node_id, 1, 7, b"t" * 16, False),
        *(ours.members.digest, ours.members.text, ours.dedup.digest, ours.dedup.text),
    )


def test_settings_that_are_alike_agree_in_whatever_order_they_are_written() -> None:
    SharedSettings(config_of(1, 2, 3)).check(hello_of(config_of(3, 1, 2, me=2)))


def test_other_members_are_refused_with_both_lists() -> None:
    with pytest.raises(MembersDiffer) as refusal:
        SharedSettings(config_of(1, 2, 3)).check(hello_of(config_of(1, 2, 3, 4, 5, me=3)))
    assert str(refusal.value) == "node 1 has the members 1, 2, 3, node 3 the members 1, 2, 3, 4, 5"


@pytest.mark.parametrize("other", [Dedup(ttl_ms=5), Dedup.of_keys(4096), Dedup(when_full="refuse")])
def test_another_window_is_refused_with_both_settings(other: Dedup) -> None:
    with pytest.raises(DedupDiffers, match=r"ttl_ms = 600000.* that of node 3 ttl_ms = ") as refusal:
        SharedSettings(config_of(1, 2, 3)).check(hello_of(config_of(1, 2, 3, me=3, dedup=other)))
    assert str(other.max_bytes) in str(refusal.value)
    assert other.when_full in str(refusal.value)


def test_windows_of_as_many_keys_agree_whichever_bound_was_written() -> None:
    """So do nodes from before `max_bytes`, which compare this text."""
    text = b'dedup: ttl_ms = 600000, max_keys = 4096, when_full = "shrink"'
    for each in (Dedup.of_keys(4096), Dedup(max_bytes=4096 * 24 + 23)):
        config = config_of(1, 2, 3, me=3, dedup=each)
        assert SharedSettings(config).dedup.digest == hashlib.blake2b(text, digest_size=16).digest()
        SharedSettings(config_of(1, 2, 3, dedup=Dedup.of_keys(4096))).check(hello_of(config))


def test_what_is_shown_of_a_long_list_is_bounded_and_what_is_compared_is_not() -> None:
    many = SharedSettings(config_of(*range(1, 1000)))
    other = SharedSettings(config_of(*range(1, 999), 1001))
    assert len(many.members.text) <= MAX_SETTING_BYTES
    assert many.members.text.endswith("(999 in all)")
    assert many.members.digest != other.members.digest
    assert many.members.text == other.members.text


def test_nodes_may_have_other_numbers_of_partitions(tmp_path: Path) -> None:
    """While a cluster is given more of them, one node after the other."""
    ours, theirs = (replace(config_of(1, 2, 3, me=me), partitions=count) for me, count in ((1, 1), (3, 4)))
    SharedSettings(ours).check(SharedSettings(theirs).hello(1, 7))
    SharedSettings(theirs).check(SharedSettings(replace(theirs, node_id=2, partition=2)).hello(3, 7))


def test_a_peer_that_does_not_say_what_it_is_set_to_is_refused() -> None:
    with pytest.raises(ProtocolError, match="must say which members"):
        SharedSettings(config_of(1, 2, 3)).check(replace(hello_of(config_of(1, 2, 3)), dedup=b""))


# --- members ----------------------------------------------------------------------------------------


async def test_a_rolling_edit_of_the_members_makes_no_second_majority(tmp_path: Path) -> None:
    """1-3 become 1-5 node by node: cut off from 1 and 2, nodes 3, 4 and 5 would elect a second leader."""
    five = await three_configs(tmp_path, 5)
    members = five[0].members
    events = flights(20)
    async with local_cluster(tmp_path, members=members[:3]) as cluster:
        async with connect(cluster.addresses) as log:
            await log.append_many(events[:10])
        await cluster.applied(10)
        await cluster.kill(3)
        set_to(cluster, 3, members=members)
        for option in ({}, {"rejoin": True}, {"trust_copy": True}):
            with pytest.raises(MembersChanged, match=r"1, 2, 3, 4, 5; .* node 3 of 1, 2, 3: "):
                Repair(cluster.places[3], alone=False, **option).open()
        assert not (cluster.configs[3].data_dir / "rejoining").exists()
        for node in five[3:]:
            cluster.configs[node.node_id], cluster.places[node.node_id] = node, place_of(node)
            await cluster.start(node.node_id)
        for node_id in (4, 5):
            for peer in (1, 2):
                told = await refused(cluster, node_id, peer)
                assert told["code"] == MembersDiffer.code
                assert told["reason"].endswith(f"node {node_id} the members 1, 2, 3, 4, 5")
        assert all(cluster.running[n].node.view.soft_state.leader is None for n in (4, 5))
        for node_id in (4, 5):
            await cluster.kill(node_id)
        async with connect(cluster.addresses[:2]) as log:
            assert [ack.offset for ack in await log.append_many(events[10:])] == list(range(10, 20))
        set_to(cluster, 3, members=members[:3])
        await cluster.start(3)
        await hold_the_same(cluster, 20)


async def test_a_directory_from_before_members_were_noted_takes_those_of_its_next_start(
    tmp_path: Path,
) -> None:
    configs = await three_configs(tmp_path, 3)
    one = replace(configs[0], members=configs[0].members[:1])
    place_of(one).open().close()
    title = one.data_dir / "identity.json"
    title.write_text(title.read_text().replace('"members": [1], ', ""))
    place_of(configs[0]).open().close()
    with pytest.raises(MembersChanged):
        place_of(one).open()


# --- the window -------------------------------------------------------------------------------------


async def test_a_node_with_another_window_counts_for_nothing_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = flights(20)
    async with local_cluster(tmp_path) as cluster:
        async with connect(cluster.addresses) as log:
            await log.append_many(events[:10])
            await cluster.kill(3)
            set_to(cluster, 3, dedup=Dedup(ttl_ms=60_000))
            await cluster.start(3)
            for peer in (1, 2):
                assert (await refused(cluster, 3, peer))["code"] == DedupDiffers.code
                assert (await refused(cluster, peer, 3))["code"] == DedupDiffers.code
            await log.append_many(events[10:])
        assert cluster.running[3].node.view.soft_state.leader is None
        said = {
            r.__dict__["reason"] for r in caplog.records if r.message in ("peer_dropped", "peer_unreachable")
        }
        assert any("ttl_ms = 60000" in reason and "ttl_ms = 600000" in reason for reason in said)


async def test_a_window_is_changed_on_all_nodes_while_all_are_stopped(tmp_path: Path) -> None:
    events = flights(60)
    async with local_cluster(tmp_path, dedup=Dedup.of_keys(4096)) as cluster:
        async with connect(cluster.addresses, batch_events=5) as log:
            await log.append_many(events[:40])
        await cluster.applied(40)
        await cluster.running[2].node.cutter.cut_before(20)  # this one begins with a snapshot
        await cluster.running[3].node.checkpointer.take(cluster.running[3].node.worker)
        for node_id in (1, 2, 3):
            await cluster.kill(node_id)
            set_to(cluster, node_id, dedup=Dedup.of_keys(8192, ttl_ms=1_200_000, when_full="refuse"))
        for node_id in (1, 2, 3):
            await cluster.start(node_id)
        async with connect(cluster.addresses, batch_events=5) as log:
            assert all(ack.duplicate for ack in await log.append_many(events[:40]))
            await log.append_many(events[40:])
        await cluster.applied(60)
        assert len({running.node.machine.digest() for running in cluster.running.values()}) == 1
        assert {(await status_of(cluster, n))["dedup"]["max_keys"] for n in (1, 2, 3)} == {8192}
